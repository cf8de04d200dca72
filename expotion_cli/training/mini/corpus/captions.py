"""Captions from a piece's attributes, in many forms from bare tags to full paragraphs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

STYLE_NAMES: dict[str, tuple[str, ...]] = {
    "cinematic": ("cinematic", "film score", "orchestral", "epic trailer", "soundtrack", "movie score"),
    "ambient": ("ambient", "atmospheric ambient", "drone ambient", "soundscape", "new age"),
    "electronic": ("electronic", "electronic dance", "EDM", "house", "techno", "synthwave", "trance"),
    "lofi": ("lofi", "lo-fi hip-hop", "hip-hop", "chillhop", "lofi beat"),
    "jazz": ("jazz", "swing", "jazzy", "bebop", "cool jazz"),
    "classical": ("classical", "classical music", "chamber music", "romantic classical"),
    "chorale": ("chorale", "hymn", "baroque chorale", "sacred", "classical"),
    "pop": ("pop", "upbeat pop", "pop rock", "indie pop", "pop music"),
    "comedy": ("comedy", "playful", "quirky comedy", "cartoon", "funny"),
    "suspense": ("suspense", "suspenseful", "thriller", "horror", "tension"),
    "rock": ("rock", "hard rock", "rock music", "rock instrumental", "game music"),
    "metal": ("metal", "heavy metal", "thrash metal", "hard rock", "action game music"),
}
_TEMPO_WORDS = {
    "slow": ("slow", "slow tempo", "slow-paced", "unhurried", "downtempo"),
    "moderate": ("medium tempo", "moderate tempo", "mid-tempo", "moderate"),
    "fast": ("fast", "fast tempo", "up-tempo", "fast-paced", "quick"),
}
_DENSITY_WORDS = {
    "sparse": ("sparse", "minimal", "few notes", "simple", "spacious"),
    "medium": ("flowing", "balanced", "steady texture"),
    "dense": ("busy", "dense", "full", "rich texture", "many notes"),
}
_ENERGY_WORDS = {
    "low": ("quiet", "low energy", "soft", "restrained", "gentle dynamics"),
    "medium": ("medium energy", "moderate energy"),
    "high": ("high energy", "loud", "forceful", "intense energy", "strong"),
}
_ARC_WORDS = {
    "rising": ("building", "builds up", "gradually grows", "rising energy", "crescendo"),
    "falling": ("fading", "winds down", "gradually calms", "falling energy", "decrescendo"),
    "bursts": ("sudden changes", "dynamic contrasts", "bursts of energy", "stops and starts"),
    "steady": ("steady", "even", "constant energy"),
}
_ARC_CLAUSES = {
    "rising": ("It builds up gradually.", "The energy rises over time.", "The intensity grows towards the end."),
    "falling": ("It slowly calms down.", "The energy falls away over time.", "It becomes quieter towards the end."),
    "bursts": (
        "There are sudden bursts and quiet moments.",
        "It is full of dynamic contrasts.",
        "The energy jumps up and down.",
    ),
    "steady": ("The energy stays even.", "It keeps a steady level throughout."),
}
_USES = {
    "cinematic": ("a movie trailer", "a film scene", "a historical drama", "an adventure movie"),
    "ambient": ("meditation", "a nature documentary", "a relaxation video", "a space documentary"),
    "electronic": ("a dance video game", "a party scene", "a fashion show", "a sports video"),
    "lofi": ("studying", "a chillout lounge", "a vlog", "a city at night"),
    "jazz": ("a bar scene", "a romantic dinner", "a coffee shop", "a detective movie"),
    "classical": ("a period drama", "a sad scene", "a documentary", "a ballet"),
    "chorale": ("a church scene", "a ceremony", "a historical documentary"),
    "pop": ("a commercial", "a vlog", "a feel-good movie", "a travel video"),
    "comedy": ("a comedy sketch", "a cartoon", "a children's show", "a funny video"),
    "suspense": ("a thriller", "a horror movie", "a crime series", "a chase scene"),
    "rock": ("a video game", "an action scene", "a sports video", "a road movie"),
    "metal": ("a video game", "a fight scene", "an action movie", "a chase scene"),
}
_FEEL_WORDS = {"swing8": ("swing", "swung"), "triplet": ("triplet feel",), "swing16": ("swung",), "straight": ()}


def caption(attributes: Mapping[str, Any], rng: np.random.Generator) -> str:
    """Describe a piece in English, as tags, a sentence or a paragraph.

    Attributes are left out at random, as people do; nothing false is stated.

    Args:
        attributes: as `describe.describe` makes them.
        rng: source of randomness.
    """
    writer = _CaptionWriter(attributes, rng)
    way = rng.random()
    if way < 0.4:
        return writer.tags()
    if way < 0.65:
        return writer.one_sentence()
    return writer.paragraph()


class _CaptionWriter:
    def __init__(self, attributes: Mapping[str, Any], rng: np.random.Generator):
        self.a = attributes
        self.rng = rng
        self.style = self.pick(STYLE_NAMES[attributes["style"]])
        # A mood that the style's name contains is not repeated.
        self.moods = [m for m in attributes["moods"] if m[:6] not in self.style] or ["pleasant"]
        rng.shuffle(self.moods)

    def pick(self, words: Sequence[str]) -> str:
        return words[int(self.rng.integers(len(words)))]

    def maybe(self, chance: float) -> bool:
        return bool(self.rng.random() < chance)

    def instruments(self, most: int) -> list[str]:
        names = list(dict.fromkeys(self.a["instruments"].values()))
        self.rng.shuffle(names)
        return names[:most]

    def tempo(self) -> str:
        return f"{self.a['tempo_bpm']} bpm" if self.maybe(0.2) else self.pick(_TEMPO_WORDS[self.a["tempo"]])

    def tags(self) -> str:
        a, energy = self.a, self.a["energy"]
        lead = " ".join([*self.moods[: int(self.rng.integers(0, 3))], self.style])
        instruments = self.instruments(3)
        if instruments and self.maybe(0.4):
            lead += " " + instruments.pop(0)
        tags: list[str] = []
        if self.maybe(0.55):
            tags.append(a["mode"] if self.maybe(0.7) else f"{a['mode']} key")
        if self.maybe(0.55):
            tags.append(self.tempo())
        if self.maybe(0.25):
            tags.append(self.pick(_DENSITY_WORDS[a["density"]]))
        if self.maybe(0.3):
            tags.append(self.pick(_ENERGY_WORDS[energy["word"]]))
        if self.maybe(0.2):
            tags.append(self.pick(_ARC_WORDS[energy["arc"]]))
        if _FEEL_WORDS[a["feel"]] and self.maybe(0.3):
            tags.append(self.pick(_FEEL_WORDS[a["feel"]]))
        if self.maybe(0.5):
            tags += instruments[: int(self.rng.integers(1, 4))]
        if "drums" not in a["voices"] and "percussion" not in a["voices"] and self.maybe(0.3):
            tags.append("no drums")
        if self.maybe(0.15):
            tags.append("instrumental")
        self.rng.shuffle(tags)
        return ", ".join([lead, *tags])

    def one_sentence(self) -> str:
        a = self.a
        mood = " and ".join(self.moods[: int(self.rng.integers(1, 3))])
        noun = self.pick(
            ("piece", "track", "instrumental", "tune") + (() if "music" in self.style else ("piece of music",))
        )
        key = f" in a {a['mode']} key" if self.maybe(0.4) else ""
        instruments = _listed(self.instruments(int(self.rng.integers(1, 4))))
        pace = f"{self.pick(_TEMPO_WORDS[a['tempo']][:1])} " if self.maybe(0.4) and a["tempo"] != "moderate" else ""
        with_ = f" {self.pick(('with', 'featuring', 'played by', 'for'))} {instruments}" if instruments else ""
        start = self.pick(("", "", "A ", "This is a "))
        first = f"{pace}{mood}".strip()
        if start and first[0] in "aeiou":
            start = start.replace("A ", "An ").replace(" a ", " an ")
        text = f"{start}{first} {self.style} {noun}{key}{with_}"
        if self.maybe(0.25):
            text += f", {self.pick(_ARC_WORDS[a['energy']['arc']])}"
        return text + ("." if start else "")

    def paragraph(self) -> str:
        a = self.a
        subject = self.pick(("This is an instrumental", "The song is an instrumental", "An instrumental"))
        noun = self.pick(("piece", "track", "song") + (() if "music" in self.style else ("music piece",)))
        sentences = [f"{subject} {self.style} {noun}."]
        by_voice = a["instruments"]
        middle: list[str] = []
        if "melody" in by_voice and self.maybe(0.75):
            middle.append(
                self.pick(
                    (
                        f"The main melody is played by {_article(by_voice['melody'])}.",
                        f"{_article(by_voice['melody']).capitalize()} carries the melody.",
                        f"The lead instrument is {_article(by_voice['melody'])}.",
                    )
                )
            )
        if "harmony" in by_voice and self.maybe(0.5):
            middle.append(
                self.pick(
                    (
                        f"The chords come from {_article(by_voice['harmony'])}.",
                        f"It is accompanied by {_article(by_voice['harmony'])}.",
                        f"{_article(by_voice['harmony']).capitalize()} can be heard in the background.",
                    )
                )
            )
        if "bass" in by_voice and self.maybe(0.4):
            middle.append(f"The bass line is played by {_article(by_voice['bass'])}.")
        if "drums" in by_voice and self.maybe(0.5):
            middle.append(
                self.pick(
                    (
                        f"The rhythm is provided by {_article(by_voice['drums'])}.",
                        f"There are {by_voice['drums']} keeping the beat."
                        if by_voice["drums"].endswith("s")
                        else f"The beat comes from {_article(by_voice['drums'])}.",
                    )
                )
            )
        elif "drums" not in by_voice and "percussion" not in by_voice and self.maybe(0.25):
            middle.append(self.pick(("There are no drums.", "There is no percussion.")))
        if self.maybe(0.5):
            middle.append(
                self.pick(
                    (
                        f"The tempo is {a['tempo']}.",
                        f"It has a {a['tempo']} tempo.",
                        f"The tempo is {a['tempo_bpm']} bpm.",
                    )
                )
            )
        if self.maybe(0.35):
            middle.append(f"It is in a {a['mode']} key.")
        if self.maybe(0.3):
            middle.append(self.pick(_ARC_CLAUSES[a["energy"]["arc"]]))
        self.rng.shuffle(middle)
        sentences += middle
        mood = _listed(self.moods[: int(self.rng.integers(1, 4))])
        sentences.append(
            self.pick(
                (
                    f"The overall mood of the {noun} is {mood}.",
                    f"The atmosphere is {mood}.",
                    f"It has {'an' if mood[0] in 'aeiou' else 'a'} {mood} feel.",
                    f"The {noun} sounds {mood}.",
                )
            )
        )
        if self.maybe(0.3):
            use = self.pick(_USES[a["style"]])
            sentences.append(self.pick((f"It could be used as background music for {use}.", f"It would suit {use}.")))
        if self.maybe(0.25):
            sentences.append(self.pick(("There are no vocals.", "There are no voices in this track.")))
        return " ".join(sentences)


def _article(name: str) -> str:
    """The name with "a" or "an", or bare where it is a plural or a mass."""
    last = name.split()[-1]
    plural = last.endswith("s") and not last.endswith("ss")
    if plural or last in ("brass", "percussion", "snare"):
        return name
    return f"an {name}" if name[0] in "aeiou" else f"a {name}"


def _listed(names: list[str]) -> str:
    if len(names) < 2:
        return "".join(names)
    return ", ".join(names[:-1]) + " and " + names[-1]
