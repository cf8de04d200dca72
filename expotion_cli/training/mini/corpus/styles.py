"""The styles: ranges, playing patterns and instruments. Data only, read by the arranger."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Style:
    """One style. Names are drawn from tuples with equal chances, so some appear more than once.

    Attributes:
        tempo: lowest and highest tempo, in beats a minute.
        modes: "major", "minor", "dorian".
        feels: divisions of the beat: "straight", "swing8" (triplet eighths), "swing16", "triplet".
        chords_per_bar: harmonic rhythm; 0.5 is a chord every two bars.
        sevenths: chance that chords carry sevenths.
        colour: chance of borrowed chords where they fit.
        looped: chance that a section loops a short progression instead of having phrases.
        harmony, bass, figure, melody, drums, counter: playing patterns of each voice; "none" leaves it out.
        lift: added to the energy profile.
        busy: range 0..1 of how many notes a melody has at medium energy.
        articulation: articulations of melody and figure: the share of the time to the next note that a note sounds.
        sets: sets of instruments; each names one for every voice that may play.
    """

    tempo: tuple[int, int]
    modes: tuple[str, ...]
    feels: tuple[str, ...]
    chords_per_bar: tuple[float, ...]
    sevenths: float
    colour: float
    looped: float
    harmony: tuple[str, ...]
    bass: tuple[str, ...]
    figure: tuple[str, ...]
    melody: tuple[str, ...]
    drums: tuple[str, ...]
    counter: tuple[str, ...]
    lift: float
    busy: tuple[float, float]
    articulation: tuple[float, ...]
    sets: tuple[dict[str, str], ...]


# fmt: off
_PIANO = {"harmony": "piano", "bass": "piano", "figure": "piano", "melody": "piano"}
_STRINGS = {"harmony": "strings", "bass": "cello", "figure": "strings", "melody": "violin", "counter": "viola"}

STYLES: dict[str, Style] = {
    "cinematic": Style(
        tempo=(60, 140), modes=("minor", "minor", "minor", "dorian", "major"),
        feels=("straight", "straight", "triplet"), chords_per_bar=(0.5, 0.5, 1, 1),
        sevenths=0.05, colour=0.06, looped=0.6,
        harmony=("pad", "pad", "pad", "halves", "pulse8"), bass=("long", "long", "pulse8", "root_beats", "ostinato"),
        figure=("ostinato8", "ostinato16", "ostinato8", "arp_up", "tremolo", "none"),
        melody=("broad", "broad", "lyric", "riff"), drums=("taiko", "taiko", "taiko", "halftime", "none"),
        counter=("long", "answer", "contrary", "none"), lift=0.0, busy=(0.15, 0.5), articulation=(1.0, 0.9),
        sets=(
            {"harmony": "strings", "bass": "double basses", "figure": "strings", "melody": "french horn",
             "counter": "cello", "drums": "taiko drums", "percussion": "cymbals"},
            {"harmony": "choir", "bass": "low brass", "figure": "strings", "melody": "brass", "counter": "strings",
             "drums": "epic drums", "percussion": "percussion"},
            {"harmony": "strings", "bass": "cello", "figure": "piano", "melody": "violin", "counter": "french horn",
             "drums": "orchestral drums", "percussion": "shakers"},
            {"harmony": "synth pad", "bass": "synth bass", "figure": "strings", "melody": "piano", "counter": "cello",
             "drums": "hybrid drums", "percussion": "percussion"},
            _STRINGS,
        ),
    ),
    "ambient": Style(
        tempo=(50, 90), modes=("major", "major", "minor", "dorian"), feels=("straight", "straight", "triplet"),
        chords_per_bar=(0.5, 0.5, 0.5, 1), sevenths=0.5, colour=0.05, looped=0.7,
        harmony=("pad",), bass=("long", "long", "pedal", "none"), figure=("arp_slow", "bells", "none", "arp_updown"),
        melody=("sparse", "sparse", "broad", "none"), drums=("none", "none", "none", "soft_pulse"),
        counter=("long", "none", "answer"), lift=-0.15, busy=(0.05, 0.25), articulation=(1.0, 1.0),
        sets=(
            {"harmony": "synth pad", "bass": "soft bass", "figure": "bells", "melody": "piano", "counter": "strings",
             "drums": "soft drums", "percussion": "shaker"},
            {"harmony": "warm pad", "bass": "sub bass", "figure": "harp", "melody": "flute", "counter": "choir",
             "drums": "soft drums", "percussion": "shaker"},
            {"harmony": "choir", "bass": "drone", "figure": "vibraphone", "melody": "synth lead", "counter": "cello"},
            {"harmony": "strings", "figure": "piano", "melody": "piano"},
        ),
    ),
    "electronic": Style(
        tempo=(100, 150), modes=("minor", "minor", "major", "dorian"), feels=("straight",),
        chords_per_bar=(1, 1, 0.5, 2), sevenths=0.25, colour=0.02, looped=0.95,
        harmony=("pump", "pump", "pad", "stabs", "pulse8"), bass=("offbeat", "offbeat", "pulse8", "octave", "synco"),
        figure=("arp_up", "arp_updown", "arp16", "ostinato16", "none"), melody=("riff", "riff", "lyric", "sparse"),
        drums=("four", "four", "four", "breakbeat"), counter=("answer", "long", "none"), lift=0.1, busy=(0.3, 0.7),
        articulation=(0.5, 0.75, 0.9),
        sets=(
            {"harmony": "synth pad", "bass": "synth bass", "figure": "synth arpeggio", "melody": "synth lead",
             "counter": "synth", "drums": "drum machine", "percussion": "hi-hats"},
            {"harmony": "synthesizer", "bass": "bass synth", "figure": "plucked synth", "melody": "synthesizer",
             "counter": "synth strings", "drums": "electronic drums", "percussion": "electronic percussion"},
            {"harmony": "synth chords", "bass": "deep bass", "figure": "arpeggiator", "melody": "saw lead",
             "counter": "choir pad", "drums": "punchy kick and snare", "percussion": "hi-hat rhythm"},
        ),
    ),
    "lofi": Style(
        tempo=(68, 98), modes=("minor", "major", "dorian", "minor"), feels=("swing16", "swing16", "straight"),
        chords_per_bar=(1, 1, 2, 0.5), sevenths=0.92, colour=0.08, looped=0.95,
        harmony=("comp", "pad", "halves", "comp"), bass=("synco", "root_beats", "long", "synco"),
        figure=("none", "arp_slow", "bells", "none"), melody=("riff", "lyric", "sparse", "sparse"),
        drums=("boombap", "boombap", "boombap", "halftime"), counter=("answer", "none", "long"), lift=0.0,
        busy=(0.2, 0.6), articulation=(0.9, 0.7),
        sets=(
            {"harmony": "electric piano", "bass": "electric bass", "figure": "guitar", "melody": "saxophone",
             "counter": "flute", "drums": "boom-bap drums", "percussion": "hi-hats"},
            {"harmony": "rhodes", "bass": "bass guitar", "figure": "vibraphone", "melody": "piano",
             "counter": "synth", "drums": "drum machine", "percussion": "vinyl-style hats"},
            {"harmony": "jazz guitar", "bass": "sub bass", "figure": "bells", "melody": "synthesizer",
             "counter": "trumpet", "drums": "hip-hop beat", "percussion": "hi-hats"},
        ),
    ),
    "jazz": Style(
        tempo=(90, 190), modes=("major", "major", "minor", "dorian"), feels=("swing8",),
        chords_per_bar=(1, 2, 1), sevenths=1.0, colour=0.25, looped=0.15,
        harmony=("comp", "comp", "comp", "halves"), bass=("walking", "walking", "walking", "two_feel"),
        figure=("none", "none", "guide"), melody=("swing", "swing", "lyric"), drums=("ride", "ride", "brushes", "none"),
        counter=("none", "answer", "long"), lift=0.05, busy=(0.35, 0.8), articulation=(0.9, 0.8),
        sets=(
            {"harmony": "piano", "bass": "double bass", "figure": "guitar", "melody": "saxophone",
             "counter": "trumpet", "drums": "jazz drums", "percussion": "ride cymbal"},
            {"harmony": "guitar", "bass": "upright bass", "figure": "vibraphone", "melody": "trumpet",
             "counter": "clarinet", "drums": "brushed drums", "percussion": "ride cymbal"},
            {"harmony": "piano", "bass": "walking bass", "figure": "piano", "melody": "piano",
             "drums": "drum kit", "percussion": "ride cymbal"},
        ),
    ),
    "classical": Style(
        tempo=(60, 132), modes=("major", "major", "minor", "minor"),
        feels=("straight", "straight", "straight", "triplet"), chords_per_bar=(1, 2, 2, 1),
        sevenths=0.12, colour=0.14, looped=0.08,
        harmony=("none", "none", "halves", "pad"), bass=("long", "root_beats", "walking", "two_feel"),
        figure=("alberti", "alberti", "arp_updown", "broken", "arp_up", "guide"), melody=("lyric", "lyric", "classic"),
        drums=("none",), counter=("contrary", "parallel", "long", "answer", "none"), lift=-0.02, busy=(0.3, 0.7),
        articulation=(0.95, 0.8, 1.0),
        sets=(
            _PIANO, _PIANO, _STRINGS,
            {"harmony": "strings", "bass": "cello", "figure": "piano", "melody": "violin", "counter": "clarinet"},
            {"harmony": "organ", "bass": "bassoon", "figure": "harpsichord", "melody": "oboe", "counter": "viola"},
            {"harmony": "strings", "bass": "cello", "figure": "harp", "melody": "flute", "counter": "clarinet"},
        ),
    ),
    "chorale": Style(
        tempo=(60, 100), modes=("major", "minor"), feels=("straight",), chords_per_bar=(4, 4, 2), sevenths=0.08,
        colour=0.12, looped=0.0, harmony=("none", "pad"), bass=("chorale",), figure=("none",), melody=("chorale",),
        drums=("none",), counter=("none",), lift=-0.05, busy=(0.3, 0.4), articulation=(1.0,),
        sets=(
            {"harmony": "strings", "bass": "cello", "figure": "viola", "melody": "violin", "counter": "violin"},
            {"harmony": "organ", "bass": "choir", "figure": "choir", "melody": "choir", "counter": "choir"},
            {"harmony": "organ", "bass": "organ", "figure": "organ", "melody": "organ", "counter": "organ"},
        ),
    ),
    "pop": Style(
        tempo=(90, 132), modes=("major", "major", "major", "minor"), feels=("straight", "straight", "swing16"),
        chords_per_bar=(1, 1, 2), sevenths=0.1, colour=0.05, looped=0.8,
        harmony=("pad", "pulse8", "beats", "halves", "stabs"), bass=("pulse8", "root_beats", "synco", "octave"),
        figure=("arp_up", "arp_updown", "riff8", "none"), melody=("lyric", "riff", "lyric"),
        drums=("rock", "rock", "four", "claps"), counter=("answer", "long", "parallel", "none"), lift=0.08,
        busy=(0.35, 0.75), articulation=(0.9, 0.75),
        sets=(
            {"harmony": "piano", "bass": "electric bass", "figure": "electric guitar", "melody": "synth lead",
             "counter": "strings", "drums": "drums", "percussion": "tambourine"},
            {"harmony": "acoustic guitar", "bass": "bass guitar", "figure": "ukulele", "melody": "glockenspiel",
             "counter": "strings", "drums": "drum kit", "percussion": "claps"},
            {"harmony": "electric guitar", "bass": "bass", "figure": "piano", "melody": "lead guitar",
             "counter": "synth", "drums": "rock drums", "percussion": "hi-hats"},
        ),
    ),
    "comedy": Style(
        tempo=(96, 168), modes=("major", "major", "minor"), feels=("straight", "straight", "swing8"),
        chords_per_bar=(1, 2, 1), sevenths=0.15, colour=0.15, looped=0.4,
        harmony=("stabs", "stabs", "beats", "none"), bass=("oompah", "oompah", "two_feel", "staccato"),
        figure=("stabs", "none", "riff8", "broken"), melody=("playful", "playful", "playful", "classic"),
        drums=("light", "light", "none"), counter=("answer", "answer", "parallel", "none"), lift=0.0, busy=(0.35, 0.75),
        articulation=(0.4, 0.3, 0.5),
        sets=(
            {"harmony": "pizzicato strings", "bass": "pizzicato bass", "figure": "pizzicato strings",
             "melody": "clarinet", "counter": "bassoon", "drums": "light percussion", "percussion": "woodblocks"},
            {"harmony": "pizzicato strings", "bass": "tuba", "figure": "xylophone", "melody": "bassoon",
             "counter": "flute", "drums": "snare drum", "percussion": "triangle"},
            {"harmony": "ukulele", "bass": "double bass", "figure": "marimba", "melody": "xylophone",
             "counter": "clarinet", "drums": "light drums", "percussion": "claps"},
        ),
    ),
    "suspense": Style(
        tempo=(60, 124), modes=("minor", "minor", "minor", "dorian"), feels=("straight", "straight", "triplet"),
        chords_per_bar=(0.5, 0.5, 1), sevenths=0.15, colour=0.14, looped=0.4,
        harmony=("pad", "pad", "tremble", "stabs"), bass=("pedal", "pedal", "pulse8", "long", "heartbeat"),
        figure=("ostinato8", "tick", "tick", "tremolo", "none"), melody=("sparse", "sparse", "broad", "none"),
        drums=("pulse", "pulse", "none", "taiko"), counter=("long", "answer", "none"), lift=-0.12, busy=(0.05, 0.35),
        articulation=(0.9, 0.5, 1.0),
        sets=(
            {"harmony": "tremolo strings", "bass": "double basses", "figure": "pizzicato strings", "melody": "cello",
             "counter": "clarinet", "drums": "low drums", "percussion": "ticking percussion"},
            {"harmony": "dark pad", "bass": "drone", "figure": "marimba", "melody": "piano", "counter": "strings",
             "drums": "heartbeat drum", "percussion": "clock-like hats"},
            {"harmony": "synth pad", "bass": "synth bass", "figure": "celesta", "melody": "violin", "counter": "choir",
             "drums": "timpani", "percussion": "cymbals"},
        ),
    ),
}
STYLE_WEIGHTS = {
    "cinematic": 2.0, "ambient": 1.2, "electronic": 1.5, "lofi": 1.4, "jazz": 1.2, "classical": 1.6, "chorale": 0.5,
    "pop": 1.4, "comedy": 1.0, "suspense": 1.2,
}

# fmt: on

# Rhythms of one beat, from calm to lively: onsets in twelfths of the beat.
CELLS: dict[str, tuple[tuple[int, ...], ...]] = {
    "straight": ((), (0,), (0,), (0, 6), (6,), (0, 9), (0, 6, 9), (0, 3, 6), (3, 6), (0, 3, 6, 9)),
    "swing16": ((), (0,), (6,), (0, 6), (0, 10), (0, 6, 10), (4,), (0, 4, 6), (4, 6, 10), (0, 4, 6, 10)),
    "swing8": ((), (0,), (8,), (0, 8), (0, 8), (0, 8), (0, 4, 8), (4, 8), (0, 4, 8), (0, 4, 8)),
    "triplet": ((), (0,), (0,), (0, 8), (0, 4, 8), (0, 6), (4, 8), (0, 4, 8), (0, 4, 8), (0, 4, 8)),
}
EIGHTH = {"straight": 6, "swing16": 6, "swing8": 8, "triplet": 8}
SIXTEENTHS = {"straight": (0, 3, 6, 9), "swing16": (0, 4, 6, 10), "swing8": (0, 4, 8), "triplet": (0, 4, 8)}
