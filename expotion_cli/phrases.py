"""Which phrases of a prompt mean what: an index of `vocabulary`, forgiving plurals and one slip of the pen."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import lru_cache
from itertools import pairwise

from expotion_cli import vocabulary
from expotion_cli.keys import MODES

METRE_PHRASES = {
    "waltz": "3/4", "waltzes": "3/4", "in three": "3/4", "in 3": "3/4", "three four": "3/4", "triple metre": "3/4",
    "triple meter": "3/4", "triple time": "3/4", "waltz time": "3/4", "minuet": "3/4", "mazurka": "3/4",
    "in six": "6/8", "six eight": "6/8", "compound time": "6/8", "jig": "6/8", "tarantella": "6/8", "barcarolle": "6/8",
    "siciliana": "6/8", "in four": "4/4", "four four": "4/4", "common time": "4/4", "cut time": "4/4",
    "polka": "4/4", "in five": "5/4",
    "five four": "5/4", "in seven": "7/8", "seven eight": "7/8",
}  # fmt: skip


TRIGGERS = {
    "no": 0, "without": 0, "minus": 0, "except": 0, "excluding": 0, "exclude": 0, "avoid": 0, "sans": 0, "lacking": 0,
    "omit": 0, "omitting": 0, "skip": 0, "non": 0, "not": 1, "free of": 0, "leave out": 0, "leaving out": 0, "don t": 0,
    "do not": 0, "instead of": 0, "rather than": 0, "other than": 0, "except for": 0, "apart from": 0, "nor": 0,
    "zero": 0, "drop the": 0, "remove": 0,
}  # fmt: skip
"""Phrases that exclude what follows; 1: only what follows at once."""
LESS = {"drumless": "drums", "beatless": "drums", "bassless": "bass"}


@dataclass(frozen=True)
class Word:
    """A word of a prompt, and what stands before it.

    Attributes:
        text: in lower case.
        first: its first character.
        gap: what parts it from the word before: "-", ",", "." (any that ends a clause) or "".
    """

    text: str
    first: int
    gap: str


_WORD = re.compile(r"r&b|[^\W_]+", re.IGNORECASE)


def words_of(prompt: str) -> Iterator[Word]:
    """The words of a prompt, in order."""
    end = 0
    for found in _WORD.finditer(prompt):
        between = prompt[end : found.start()]
        gap = "." if set(between) & set(".;:!?\n()[]") else "," if set(between) & set(",/") else ""
        if not gap and "-" in between and between.strip("-") == "":
            gap = "-"
        yield Word(found[0].lower(), found.start(), gap if end else ".")
        end = found.end()


def listed(text: str) -> Iterator[str]:
    """The items of a list with commas."""
    yield from (item.strip() for item in text.split(",") if item.strip())


def _phrase(text: str) -> tuple[str, ...]:
    return tuple(word.text for word in words_of(text))


def _phrases() -> dict[tuple[str, ...], tuple[str, str]]:
    """Phrase → (kind, name); what is entered later stands above what was entered earlier."""
    found: dict[tuple[str, ...], tuple[str, str]] = {}

    def enter(kind: str, words: Iterable[str], name: str | None = None) -> None:
        for word in words:
            found[_phrase(word)] = (kind, word if name is None else name)

    enter("ordinary", listed(vocabulary.ORDINARY))
    enter("ordinary", listed(vocabulary.TEMPO_WORDS))
    enter("mood", listed(vocabulary.MOODS))
    enter("style", listed(vocabulary.STYLES))
    enter("beat", listed(vocabulary.BEAT_STYLES))
    enter("mood", listed(vocabulary.MINOR_MOODS))
    enter("mood", listed(vocabulary.MAJOR_MOODS))
    for density, words in vocabulary.DENSITIES.items():
        enter("density", listed(words), density)
    enter("vocals", listed(vocabulary.VOCALS))
    for instrument in vocabulary.INSTRUMENTS:
        enter("instrument", instrument.words, instrument.name)
    for name, (words, _) in vocabulary.ENSEMBLES.items():
        enter("instrument", (name, *listed(words)), name)
    enter("mode", MODES)
    enter("metre", METRE_PHRASES)
    for word, name in LESS.items():
        enter("less", (word,), name)
    enter("trigger", TRIGGERS)
    return found


MODE_OF_MOOD = {
    **dict.fromkeys(listed(vocabulary.MINOR_MOODS), True),
    **dict.fromkeys(listed(vocabulary.MAJOR_MOODS), False),
}
FAMILY_OF_WORD = {word: name for name, words in vocabulary.FAMILY_WORDS.items() for word in listed(words)}
_PHRASES = _phrases()


@lru_cache(maxsize=4096)
def look_up(phrase: tuple[str, ...]) -> tuple[str, str] | None:
    """What a phrase means, as it stands, without a plural's ending, or with one letter wrong."""
    for stem in _stems(phrase[-1]):
        if (found := _PHRASES.get((*phrase[:-1], stem))) is not None:
            return found
    return _nearly(phrase[0]) if len(phrase) == 1 else None


def _stems(word: str) -> Iterator[str]:
    yield word
    if len(word) > 3:
        if word.endswith("s"):
            yield word[:-1]
        if word.endswith("es"):
            yield word[:-2]


_SHORTEST_MISSPELT, _LONGEST_MISSPELT = 6, 14


def _misspellings() -> dict[str, list[str]]:
    found: dict[str, list[str]] = {}
    for phrase, (kind, _) in _PHRASES.items():
        if kind == "instrument" and len(phrase) == 1 and len(phrase[0]) >= _SHORTEST_MISSPELT:
            for shorter in _without_a_letter(phrase[0]):
                found.setdefault(shorter, []).append(phrase[0])
    return found


def _without_a_letter(word: str) -> Iterator[str]:
    yield word
    for place in range(1, len(word)):
        yield word[:place] + word[place + 1 :]


def _nearly(word: str) -> tuple[str, str] | None:
    """The instrument whose name this is with one letter wrong, missing, too many, or two swapped."""
    if not _SHORTEST_MISSPELT - 1 <= len(word) <= _LONGEST_MISSPELT:
        return None
    for shorter in _without_a_letter(word):
        for name in _MISSPELLINGS.get(shorter, ()):
            if _is_one_slip(word, name):
                return _PHRASES[(name,)]
    return None


def _is_one_slip(word: str, name: str) -> bool:
    if len(word) != len(name):
        return True  # they share a form with one letter less, so one is the other with a letter more
    wrong = [place for place, (a, b) in enumerate(zip(word, name, strict=True)) if a != b]
    if len(wrong) == 1:
        return True
    swapped = len(wrong) == 2 and next(b - a for a, b in pairwise(wrong)) == 1
    return swapped and word[wrong[0]] == name[wrong[1]] and word[wrong[1]] == name[wrong[0]]


_MISSPELLINGS = _misspellings()
