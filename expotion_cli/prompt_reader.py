"""Reads a prompt from left to right, word by word, and gathers what it says."""

from __future__ import annotations

import re
from collections.abc import Sequence

from expotion_cli.compose import METRES
from expotion_cli.keys import LEARNED_MODES, MODES, stated_key
from expotion_cli.phrases import FAMILY_OF_WORD, METRE_PHRASES, TRIGGERS, Word, look_up, words_of

_LONGEST_PHRASE = 5
_LONGEST_WORD = 24
_NEGATION_REACH = 4
_METRE = re.compile(r"(?<![\d/.])(\d{1,2})/(\d{1,2})(?![\d/])")
_NEAREST_METRE = {"2/4": "4/4", "2/2": "4/4", "12/8": "6/8", "9/8": "3/4", "3/8": "3/4", "3/2": "3/4", "6/4": "3/4"}


class Said:
    """What a prompt says, as it is gathered; the fields are those of `brief.Brief`."""

    def __init__(self) -> None:
        self.asked: list[str] = []
        self.lead: list[str] = []
        self.is_solo = False
        self.excluded: list[str] = []
        self.tonic: int | None = None
        self.is_minor: bool | None = None
        self.metre = ""
        self.density = ""
        self.moods: list[str] = []
        self.styles: list[str] = []
        self.has_beat = False
        self.unknown: list[str] = []
        self.notes: list[str] = []


def read_prompt(prompt: str) -> Said:
    """What a prompt says."""
    said = Said()
    words = list(words_of(prompt))
    taken = [*_read_key(prompt, said), *_read_metre(prompt, said)]
    _Reader(words, _within(words, taken), said).read()
    return said


def _within(words: Sequence[Word], spans: Sequence[tuple[int, int]]) -> list[bool]:
    inside = {place for first, last in spans for place in range(first, last)}
    return [word.first in inside for word in words]


def _read_key(prompt: str, said: Said) -> list[tuple[int, int]]:
    found = stated_key(prompt)
    if found is None:
        return []
    said.tonic, said.is_minor = found.key.tonic, found.key.is_minor
    if found.mode:
        _note_mode(found.mode, said)
    return [found.span]


def _note_mode(mode: str, said: Said) -> None:
    if mode not in LEARNED_MODES:
        taken = "minor" if MODES[mode] else "major"
        said.notes.append(f"the model has learned major and minor: {mode} is taken as {taken}")


def _read_metre(prompt: str, said: Said) -> list[tuple[int, int]]:
    spans = []
    for found in _METRE.finditer(prompt):
        upper, lower = int(found[1]), int(found[2])
        if upper > 0 and lower in (1, 2, 4, 8, 16):
            spans.append(found.span())
            if not said.metre:
                _take_metre(f"{upper}/{lower}", said)
    return spans


def _take_metre(metre: str, said: Said) -> None:
    said.metre = metre if metre in METRES else _NEAREST_METRE.get(metre, METRES[0])
    if said.metre != metre:
        known = f"{', '.join(METRES[:-1])} and {METRES[-1]}"
        said.notes.append(f"metre {metre} is taken as {said.metre}: the model has learned {known}")


_SCOPE_ENDS = {
    "but",
    "just",
    "only",
    "with",
    "plus",
    "featuring",
    "instead",
    "yet",
    "though",
    "although",
    "while",
    "then",
}
_ARTICLES = {"a", "an", "the", "one", "single", "any", "some", "lone"}
_POSITIVE_STARTS = {"a", "an", "some", "lots", "with", "only", "just", "plus"}
_SOLO_BEFORE, _SOLO_AFTER = {"solo", "unaccompanied", "lone"}, {"solo", "alone"}
_ONLY = {"only", "just"}
_LEAD_AFTER = {"melody", "lead", "theme"}
_KEY_WORDS = {"key", "mode", "scale", "chord", "chords", "harmony", "harmonies", "tonality", "feel", "melody"}


class _Reader:
    """Reads a prompt's words from left to right, each once."""

    def __init__(self, words: Sequence[Word], taken: Sequence[bool], said: Said):
        self.words, self.taken, self.said = words, taken, said
        self.reach = 0
        """Words that a negation still reaches before it has met what it excludes; 0 outside negations."""
        self.has_met = False
        """The negation has met what it excludes, and goes on only through a list."""
        self.is_listed = False

    def read(self) -> None:
        at = 0
        while at < len(self.words):
            if self.taken[at]:
                at += 1
                continue
            self._pass_gap(at)
            kind, name, length = self._match(at)
            if self._is_negating:
                self._pass_word(at, kind)
            getattr(self, f"_take_{kind}")(at, length, name)
            at += length

    @property
    def _is_negating(self) -> bool:
        return self.reach > 0 or self.has_met

    def _end_negation(self) -> None:
        self.reach, self.has_met, self.is_listed = 0, False, False

    def _pass_gap(self, at: int) -> None:
        gap = self.words[at].gap
        if gap == "," and self.has_met and self._list_goes_on(at):
            self.is_listed = True
        elif gap in (",", "."):
            self._end_negation()

    def _list_goes_on(self, at: int) -> bool:
        """Whether a list after a comma ends with "or" or "nor": then all of it is excluded."""
        for later in range(at, min(at + 8, len(self.words))):
            word = self.words[later]
            if later > at and word.gap == ".":
                return False
            if word.text in ("or", "nor"):
                return True
            if word.text in _SCOPE_ENDS or word.text in TRIGGERS or word.text in ("and", "a", "an"):
                return False
        return False

    def _pass_word(self, at: int, kind: str) -> None:
        text = self.words[at].text
        if text in _SCOPE_ENDS and kind in ("ordinary", "trigger"):
            self._end_negation()
        elif text in ("or", "nor"):
            self.is_listed = self.has_met
        elif text == "and":
            follows = self.words[at + 1].text if at + 1 < len(self.words) else ""
            if follows in _POSITIVE_STARTS:
                self._end_negation()
            else:
                self.is_listed = self.has_met
        elif self.has_met and not self.is_listed:
            self._end_negation()
        elif not self.has_met and kind != "trigger":
            if kind not in ("instrument", "vocals"):
                self.reach -= 1 if text not in _ARTICLES else 0
            if self.reach <= 0:
                self._end_negation()

    def _match(self, at: int) -> tuple[str, str, int]:
        """(kind, name, number of words) of the longest phrase that begins here."""
        phrase: list[str] = []
        found = ("unknown", self.words[at].text, 1)
        for length in range(1, _LONGEST_PHRASE + 1):
            here = at + length - 1
            if here >= len(self.words) or (length > 1 and (self.words[here].gap in (",", ".") or self.taken[here])):
                break
            phrase.append(self.words[here].text)
            known = look_up(tuple(phrase))
            if known is not None:
                found = (*known, length)
        return found

    def _take_trigger(self, at: int, length: int, name: str) -> None:
        follows = self.words[at + length].text if at + length < len(self.words) else ""
        if name == "not" and follows in ("only", "just"):
            return
        self.reach, self.has_met, self.is_listed = 2 if TRIGGERS[name] else _NEGATION_REACH, False, False

    def _take_instrument(self, at: int, length: int, name: str) -> None:
        after = self.words[at + length] if at + length < len(self.words) else None
        is_free = (
            after is not None and after.text == "free" and after.gap in ("-", "") and not self._goes_free(at + length)
        )
        if is_free or self._is_negating:
            words = " ".join(word.text for word in self.words[at : at + length])
            self.said.excluded.append(FAMILY_OF_WORD.get(words, name))
            self.has_met, self.reach, self.is_listed = self._is_negating, 0, False
            return
        said = self.said
        said.asked.append(name)
        before, is_only = self._before(at)
        follows = after.text if after is not None and after.gap in ("", "-") else ""
        if before in _SOLO_BEFORE or follows in _SOLO_AFTER or is_only or follows == "only":
            said.is_solo = True
        if before in {"solo", "lead"} or follows in _LEAD_AFTER or follows == "solo":
            said.lead.append(name)

    def _goes_free(self, at: int) -> bool:
        """Whether "free" at this place belongs to what follows, as in "piano, free jazz"."""
        return self.words[at].gap == "" and self._match(at)[2] > 1

    def _before(self, at: int) -> tuple[str, bool]:
        """The word before, articles aside, and whether it says that nothing else plays."""
        for earlier in range(at - 1, max(-1, at - 4), -1):
            text = self.words[earlier].text
            if self.words[earlier + 1].gap in (",", "."):
                return "", False
            if text not in _ARTICLES:
                nothing_but = text == "but" and earlier > 0 and self.words[earlier - 1].text == "nothing"
                not_only = earlier > 0 and self.words[earlier - 1].text == "not"
                return text, nothing_but or (text in _ONLY and not not_only)
        return "", False

    def _take_less(self, at: int, length: int, name: str) -> None:
        self.said.excluded.append(name)

    def _take_vocals(self, at: int, length: int, name: str) -> None:
        after = self.words[at + length] if at + length < len(self.words) else None
        if after is not None and after.text == "free":
            return
        if self._is_negating:
            self.has_met, self.reach, self.is_listed = True, 0, False
        elif (note := "nobody sings: the music is instrumental; a choir without words can be asked for") not in (
            self.said.notes
        ):
            self.said.notes.append(note)

    def _take_metre(self, at: int, length: int, name: str) -> None:
        if not self.said.metre and not self._is_negating:
            _take_metre(METRE_PHRASES[name], self.said)

    def _take_mode(self, at: int, length: int, name: str) -> None:
        if self._is_negating or self.said.is_minor is not None:
            return
        ends = at + length == len(self.words) or self.words[at + length].gap in (",", ".")
        goes_on = ends or self._match(at + length)[0] not in ("unknown", "mood")
        if goes_on or self.words[at + length].text in _KEY_WORDS:
            self.said.is_minor = MODES[name]
            _note_mode(name, self.said)

    def _take_mood(self, at: int, length: int, name: str) -> None:
        if not self._is_negating:
            self.said.moods.append(name)

    def _take_density(self, at: int, length: int, name: str) -> None:
        if not self._is_negating:
            self.said.density = self.said.density or name

    def _take_style(self, at: int, length: int, name: str) -> None:
        if not self._is_negating:
            self.said.styles.append(name)

    def _take_beat(self, at: int, length: int, name: str) -> None:
        if self._is_negating:
            if name in ("beat", "beats", "groove"):
                self.said.excluded.append("drums")
                self.has_met, self.reach, self.is_listed = True, 0, False
            return
        self.said.styles.append(name)
        self.said.has_beat = True

    def _take_ordinary(self, at: int, length: int, name: str) -> None:
        pass

    def _take_unknown(self, at: int, length: int, name: str) -> None:
        if any(letter.isalpha() for letter in name) and len(name) > 1 and not name[0].isdecimal():
            self.said.unknown.append(name if len(name) <= _LONGEST_WORD else f"{name[:_LONGEST_WORD]}…")
