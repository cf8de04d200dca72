"""Sixty prompts and what they ask for."""

from __future__ import annotations

from typing import NamedTuple


class Asked(NamedTuple):
    """A prompt and what must come of it.

    Attributes:
        prompt: in the user's words.
        sounds: programs that must sound in pitched voices; "drums" and "percussion" for these voices.
        rests: voices and families (`vocabulary.FAMILIES`) that must not sound.
        key: as `keys.Key` is written; "" leaves the tonic open.
        mode: "minor", "major" or "" where it is left open.
        metre: of the music.
        bpm: lowest and highest tempo, or None for the recipe's.
        recipe: whose instruments play where the prompt names none.
        alone: nothing but `sounds` may sound.
    """

    prompt: str
    sounds: tuple[int | str, ...] = ()
    rests: tuple[str, ...] = ()
    key: str = ""
    mode: str = ""
    metre: str = "4/4"
    bpm: tuple[float, float] | None = None
    recipe: str = "cinematic"
    alone: bool = True


BEATS = ("drums", "percussion")
CINEMATIC = (48, 42, 41, 40, 60, *BEATS)

ASKED = (
    Asked("solo piano", (0,), BEATS),
    Asked("piano solo, 72 bpm", (0,), BEATS, bpm=(72, 72)),
    Asked("piano only", (0,), BEATS),
    Asked("just a guitar", (24,), BEATS),
    Asked("unaccompanied cello in D minor", (42,), ("harmony", "bass", *BEATS), "D minor", "minor"),
    Asked("nothing but a harp", (46,), BEATS),
    Asked("string quartet", (40, 41, 42), ("harmony", "brass", *BEATS)),
    Asked("no drums, string quartet", (40, 41, 42), BEATS),
    Asked("brass quintet in Bb major", (56, 57, 58, 60), ("strings", *BEATS), "Bb major", "major"),
    Asked("piano trio, 3/4", (0, 40, 42), BEATS, metre="3/4"),
    Asked("jazz trio", (0, 32, *BEATS), ("strings",)),
    Asked("big band swing", (61, 0, 56, 66, 32, *BEATS), ("strings",)),
    Asked("rock band with a guitar solo", (33, *BEATS), ("strings", "brass"), alone=False),
    Asked("full orchestra", (48, 60, 42, 43, *BEATS), ("guitar", "synth")),
    Asked("orchestra without strings", BEATS, ("strings",), alone=False),
    Asked("saxaphone ballad", (66,), BEATS),
    Asked("accordian waltz", (21,), BEATS, metre="3/4"),
    Asked("gentle ukulele and glockenspiel", (24, 9), BEATS),
    Asked("violin and piano duet", (40, 0), BEATS),
    Asked("piano, violin and cello", (0, 40, 42), BEATS),
    Asked("flute, oboe, clarinet and bassoon", (73, 68, 71, 70), ("harmony", *BEATS)),
    Asked("guitar, bass and drums", (24, 33, *BEATS), ("strings",)),
    Asked("electric guitars and bass guitar, hard rock", (27, 33, *BEATS), ("strings",)),
    Asked("hard rock with electric guitar, no drums", (27,), BEATS),
    Asked("trumpet and no drums or bass", (56,), ("bass", *BEATS)),
    Asked("no drums, bass, or guitar; warm pad", (89,), ("bass", "guitar", *BEATS)),
    Asked("percussion-free marimba", (12,), BEATS),
    Asked("minus the drums: choir and organ", (52, 53, 16), BEATS),
    Asked("music without drums and with a soft piano", (0,), BEATS),
    Asked("everything except drums", (48, 42, 41, 40, 60), BEATS),
    Asked("no strings", BEATS, ("strings",), alone=False),
    Asked("epic battle without brass", (48, 42, 41, 40, *BEATS), ("brass",), alone=False),
    Asked("sad", CINEMATIC, mode="minor"),
    Asked("happy and cheerful", CINEMATIC, mode="major"),
    Asked("epic battle", CINEMATIC),
    Asked("happy yet sad", CINEMATIC),
    Asked("instrumental, no vocals", CINEMATIC),
    Asked("in A minor", CINEMATIC, key="A minor", mode="minor"),
    Asked("C# major, fast", CINEMATIC, key="Db major", mode="major", bpm=(124, 144)),
    Asked("a happy tune in E flat minor", CINEMATIC, key="Eb minor", mode="minor"),
    Asked("in the key of D, 100 bpm", CINEMATIC, key="D", bpm=(100, 100)),
    Asked("D dorian", CINEMATIC, key="D minor", mode="minor"),
    Asked("lydian, dreamy", CINEMATIC, mode="major"),
    Asked("a dark piece in a minor key", CINEMATIC, mode="minor"),
    Asked("a minor role for the violin", (40,), BEATS),
    Asked("6/8 jig on a fiddle", (110,), BEATS, metre="6/8"),
    Asked("harpsichord in three", (6,), BEATS, metre="3/4"),
    Asked("5/4 jazz", CINEMATIC),
    Asked("12/8 blues", CINEMATIC, metre="6/8"),
    Asked("between 80 and 90 bpm, music box", (10,), BEATS, bpm=(80, 90)),
    Asked("solo piano, no piano", (0,), BEATS),
    Asked("piano and strings, no piano", (48, 42, 43), ("piano", *BEATS)),
    Asked("synth", (90, 38, 81, 80, 50), BEATS),
    Asked("drum and bass", (90, 38, 81, 80, 50, *BEATS), recipe="electronic"),
    Asked("deep bass and drums", (38, *BEATS), ("synth strings", "harmony", "melody"), recipe="electronic"),
    Asked("taiko drums and french horns", (60, "drums"), ("percussion", "strings")),
    Asked("rock drums and electric guitar", (27, *BEATS), ("strings",), recipe="classical"),
    Asked("lo-fi hip-hop with rhodes, mellow", (4, *BEATS), ("strings",), recipe="classical"),
    Asked("Musik für Klavier und Geige, traurig", CINEMATIC),
    Asked("悲しいピアノの曲", CINEMATIC),
)
