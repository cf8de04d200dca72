"""Grooves as data: what drums and accompaniment play, level by level, from `recipes/groove/NAME.toml` or an own file.

A row of the file is one drum's part of one bar or two, a character a sixteenth: `X` strong, `x` normal, `.` or `o` a
ghost note, `-` none; spaces and `|` are for the eye. Bars of twelve characters in 4/4 or nine in 3/4 are in triplets,
bars of six in 6/8 in eighths.

Rows of `harmony`, `bass` and `figure` say when those voices strike; the model chooses what: `x` struck, `-` held, `.`
let go, `?` as the model likes. In the figure's row a digit is a stroke too, from low (0) to high (4).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from expotion_cli import declare
from expotion_cli.assets import shipped_folder
from expotion_cli.errors import RecipeError, reading
from expotion_cli.storage import digest_of, expanded, read_toml
from expotion_cli.timing import METRES, STEPS_PER_BEAT

STEPS_OF_METRE = {metre: beats * STEPS_PER_BEAT for metre, beats in METRES.items()}
"""Length in steps of a bar of each metre that grooves are written in."""
LANES = {
    "kick": ("drums", 0), "snare": ("drums", 1), "low_tom": ("drums", 2), "high_tom": ("drums", 3),
    "crash": ("drums", 4), "closed_hat": ("percussion", 0), "open_hat": ("percussion", 1), "ride": ("percussion", 2),
    "tambourine": ("percussion", 3), "clap": ("percussion", 4),
}  # fmt: skip
"""Drum → (voice, place among the voice's lanes)."""
PARTS = ("harmony", "bass", "figure")
"""Pitched voices whose rhythm a groove may fix."""
STRUCK, LET_GO, FREE = "x", ".", "?"
GHOST, NORMAL, STRONG = 0, 1, 2
"""Velocity classes of ordinary strokes; the class above belongs to answers."""
SWINGS = ("none", "eighths", "sixteenths")
FILL_WEIGHTS = ("light", "heavy", "pickup")
BEFORE_HEAVY = ("none", "gap", "fill")
MAX_LEVELS, MAX_FILLS, MAX_BYTES = 8, 24, 64 * 1024
_FORCES = {"X": STRONG, "x": NORMAL, ".": GHOST, "o": GHOST, "-": None}
_CELLS = {
    "4/4": {16: (3, 1), 32: (3, 2), 12: (4, 1), 24: (4, 2)},
    "3/4": {12: (3, 1), 24: (3, 2), 9: (4, 1), 18: (4, 2)},
    "6/8": {12: (3, 1), 24: (3, 2), 6: (6, 1)},
}
"""Characters in a row → (steps a character, bars)."""
_TOP_KEYS = ("title", "description", "soft", "answer", "heavy_answer", "before_heavy", "ghosts", "fallback")
_METRE_KEYS = ("swing", "levels", "fills")
_DEFAULT_FALLBACK = "waltz"


@dataclass(frozen=True)
class Row:
    """One drum's part.

    Attributes:
        lane: the drum, one of `LANES`.
        strokes: (step, velocity class) in order of time.
        num_steps: length after which it begins anew.
    """

    lane: str
    strokes: tuple[tuple[int, int], ...]
    num_steps: int


@dataclass(frozen=True)
class Part:
    """The rhythm of a pitched voice.

    Attributes:
        marks: (step, mark) of what is not held: `STRUCK`, `LET_GO`, `FREE` or a digit, in order of time.
        num_steps: length after which it begins anew.
    """

    marks: tuple[tuple[int, str], ...]
    num_steps: int


@dataclass(frozen=True)
class Level:
    """What is played from an intensity on.

    Attributes:
        least: lowest intensity of the level.
        rows: one for each drum that takes part; none for a level without drums.
        parts: the rhythm of pitched voices, by name, each of `PARTS`; the model decides on those left out.
    """

    least: float
    rows: tuple[Row, ...]
    parts: Mapping[str, Part] = field(default_factory=dict)


@dataclass(frozen=True)
class Fill:
    """What leads into a section, or up to a heavy hit point.

    Attributes:
        weight: "light" or "heavy" before sections, "pickup" for short ones anywhere.
        rows: parts that take the place of those of the same drums; all others go on.
        num_steps: its length, at most a bar.
    """

    weight: str
    rows: tuple[Row, ...]
    num_steps: int


@dataclass(frozen=True)
class Patterns:
    """What a groove plays in one metre: levels from calm to intense, fills, and how it swings (one of `SWINGS`)."""

    levels: tuple[Level, ...]
    fills: tuple[Fill, ...]
    swing: str


@dataclass(frozen=True)
class Groove:
    """A groove in all metres.

    Attributes:
        name: that of its file.
        title: for people.
        patterns: by metre, every key of `STEPS_OF_METRE`; in metres that its file lacks, its fallback's.
        answer: drums that answer a hit point.
        heavy_answer: drums that answer a heavy one.
        before_heavy: what comes before a heavy answer: "gap" (half a beat without hats), "fill" (a pickup) or "none".
        ghosts: drums that add the small strokes by which bars vary.
        is_soft: no crash where sections start, light fills only.
    """

    name: str
    title: str
    patterns: Mapping[str, Patterns]
    answer: tuple[str, ...]
    heavy_answer: tuple[str, ...]
    before_heavy: str
    ghosts: tuple[str, ...]
    is_soft: bool


def groove_names() -> list[str]:
    """Names of the shipped grooves, sorted."""
    return sorted(path.stem for path in (shipped_folder("recipes") / "groove").glob("*.toml"))


def load_groove(name_or_path: str | Path) -> Groove:
    """Read a shipped groove by name, or one's own by path.

    Args:
        name_or_path: `cinematic`, or a path that ends in `.toml`.

    Raises:
        RecipeError: there is no such groove, or its file can't be read, has an unknown key or a wrong value.
    """
    path = _find(str(name_or_path))
    file = _File(path)
    patterns = dict(file.patterns)
    asked, other = {path}, file
    while len(patterns) < len(STEPS_OF_METRE):
        path = _find(other.fallback, of=other.path)
        if path in asked:
            lacking = ", ".join(metre for metre in STEPS_OF_METRE if metre not in patterns)
            raise RecipeError(
                f"neither the groove nor its fallbacks play {lacking}.",
                path=file.path,
                remedy=f'Write such a table, or leave out "fallback" for {_DEFAULT_FALLBACK!r}.',
            )
        asked.add(path)
        other = _File(path)
        patterns = {**other.patterns, **patterns}
    return Groove(file.path.stem, file.title, patterns, *file.manner)


def groove_digest(name_or_path: str | Path) -> str:
    """sha256 (hex) over all that a groove says, wherever it stands.

    Raises:
        RecipeError: see `load_groove`.
    """
    groove = asdict(load_groove(name_or_path))
    del groove["name"], groove["title"]
    return digest_of(groove)


class _File:
    """One groove file: what it says itself, without its fallback."""

    def __init__(self, path: Path):
        self.path = path
        table = _read(path)
        metres = {key: value for key, value in table.items() if key in STEPS_OF_METRE}
        for key in table:
            if key not in _TOP_KEYS and key not in metres:
                raise declare.unknown_key(key, (*_TOP_KEYS, *STEPS_OF_METRE), where="groove", path=path)
        if not metres:
            known = ", ".join(f'["{metre}"]' for metre in STEPS_OF_METRE)
            raise RecipeError("the groove plays no metre.", path=path, remedy=f"Write one of the tables {known}.")
        self.title = self._text(table.get("title", path.stem), "title")
        self._text(table.get("description", ""), "description")
        self.fallback = self._text(table.get("fallback", _DEFAULT_FALLBACK), "fallback")
        answer = self._lanes(table.get("answer", ["kick"]), "answer")
        self.manner = (
            answer,
            self._lanes(table.get("heavy_answer", [*answer, "crash"]), "heavy_answer"),
            self._choice(table.get("before_heavy", "none"), BEFORE_HEAVY, "before_heavy"),
            self._lanes(table.get("ghosts", ["closed_hat"]), "ghosts"),
            self._flag(table.get("soft", False), "soft"),
        )
        self.patterns = {metre: self._patterns(metre, value) for metre, value in metres.items()}

    def _patterns(self, metre: str, value: Any) -> Patterns:
        table = self._table(value, metre, _METRE_KEYS)
        swing = self._choice(table.get("swing", "none"), SWINGS, f"{metre}.swing")
        if swing == "eighths" and metre == "6/8":
            raise self._error(f"{metre}.swing", swing, "does not exist in this metre")
        levels: list[Level] = []
        for place, rows in enumerate(self._list(table.get("levels"), f"{metre}.levels", 1, MAX_LEVELS)):
            key = f"{metre}.levels[{place}]"
            rows = self._table(rows, key, ("from", *LANES, *PARTS))
            least = self._share(rows.get("from"), f"{key}.from")
            if levels and least <= levels[-1].least:
                raise self._error(f"{key}.from", least, "must be above that of the level before")
            parts = {name: self._part(rows[name], name, key, metre, swing) for name in PARTS if name in rows}
            levels.append(Level(least, self._rows(rows, key, _CELLS[metre], swing), parts))
        fills: list[Fill] = []
        for place, rows in enumerate(self._list(table.get("fills", []), f"{metre}.fills", 0, MAX_FILLS)):
            key = f"{metre}.fills[{place}]"
            rows = self._table(rows, key, ("weight", *LANES))
            weight = self._choice(rows.get("weight"), FILL_WEIGHTS, f"{key}.weight")
            half_beats = range(1, STEPS_OF_METRE[metre] // 6 + 1)
            found = self._rows(rows, key, {2 * n: (3, 1) for n in half_beats}, swing)
            lengths = {row.num_steps for row in found}
            if len(lengths) != 1:
                raise RecipeError(f"groove: {key} needs rows, all of one length.", path=self.path)
            fills.append(Fill(weight, found, lengths.pop()))
        return Patterns(tuple(levels), tuple(fills), swing)

    def _rows(
        self, table: Mapping[str, Any], key: str, cells: Mapping[int, tuple[int, int]], swing: str
    ) -> tuple[Row, ...]:
        rows = []
        for lane in LANES:
            if lane not in table:
                continue
            text = self._marks(table[lane], f"{key}.{lane}", tuple(_FORCES), cells)
            width = cells[len(text)][0]
            forces = ((place * width, _FORCES[mark]) for place, mark in enumerate(text))
            strokes = tuple((_swung(step, swing), force) for step, force in forces if force is not None)
            rows.append(Row(lane, strokes, width * len(text)))
        return tuple(rows)

    def _part(self, value: Any, name: str, key: str, metre: str, swing: str) -> Part:
        known = (STRUCK, "-", LET_GO, FREE, *("01234" if name == "figure" else ""))
        text = self._marks(value, f"{key}.{name}", known, _CELLS[metre])
        width = _CELLS[metre][len(text)][0]
        marks = tuple((_swung(place * width, swing), mark) for place, mark in enumerate(text) if mark != "-")
        return Part(marks, width * len(text))

    def _marks(self, value: Any, where: str, known: tuple[str, ...], cells: Mapping[int, tuple[int, int]]) -> str:
        """A row's characters, without those for the eye."""
        text = self._text(value, where).replace(" ", "").replace("|", "")
        if strange := sorted(set(text) - set(known)):
            raise self._error(where, value, f"has {strange[0]!r}; known are {' '.join(known)}")
        if len(text) not in cells:
            lengths = ", ".join(map(str, sorted(cells)))
            raise self._error(where, value, f"has {len(text)} characters; it may have {lengths}")
        return text

    def _error(self, key: str, value: Any, problem: str) -> RecipeError:
        shown = repr(value)
        return RecipeError(f"groove: {key} = {shown[:60]}{'…' * (len(shown) > 60)} {problem}.", path=self.path)

    def _text(self, value: Any, key: str) -> str:
        if not isinstance(value, str) or len(value) > 200:
            raise self._error(key, value, "must be text in quotes, at most 200 characters")
        return value

    def _flag(self, value: Any, key: str) -> bool:
        if not isinstance(value, bool):
            raise self._error(key, value, "must be true or false")
        return value

    def _share(self, value: Any, key: str) -> float:
        if isinstance(value, bool) or not isinstance(value, (int, float)) or not 0 <= value <= 1:
            raise self._error(key, value, "must be a number from 0 to 1")
        return float(value)

    def _choice(self, value: Any, options: tuple[str, ...], key: str) -> str:
        if value not in options:
            raise self._error(key, value, f"must be one of {', '.join(options)}{declare.nearest_hint(value, options)}")
        return str(value)

    def _lanes(self, value: Any, key: str) -> tuple[str, ...]:
        if not isinstance(value, list) or len(value) > len(LANES):
            raise self._error(key, value, "must be a list of drums")
        for lane in value:
            if not isinstance(lane, str) or lane not in LANES:
                hint = declare.nearest_hint(lane, LANES)
                raise self._error(key, lane, f"is no drum{hint}; known are {', '.join(LANES)}")
        return tuple(dict.fromkeys(value))

    def _list(self, value: Any, key: str, least: int, most: int) -> list[Any]:
        if not isinstance(value, list) or not least <= len(value) <= most:
            raise self._error(key, value, f"must be {least} to {most} tables")
        return value

    def _table(self, value: Any, key: str, known: tuple[str, ...]) -> Mapping[str, Any]:
        if not isinstance(value, Mapping):
            raise self._error(key, value, "must be a table")
        for inner in value:
            if inner not in known:
                raise declare.unknown_key(
                    f"{key}.{inner}", [f"{key}.{name}" for name in known], where="groove", path=self.path
                )
        return value


def _read(path: Path) -> dict[str, Any]:
    with reading(path, "the groove", error=RecipeError):
        size = path.stat().st_size
    if size > MAX_BYTES:
        raise RecipeError(f"the groove has {size} bytes; a groove has at most {MAX_BYTES}.", path=path)
    try:
        return read_toml(path, "the groove", error=RecipeError)
    except RecursionError:
        raise RecipeError("the groove is nested too deeply.", path=path) from None


def _find(text: str, of: Path | None = None) -> Path:
    """The file of a groove; `of` is the file that names it as its fallback, which must be a shipped one."""
    if of is None and (text.endswith(".toml") or "/" in text or "\\" in text):
        path = expanded(text)
        if not path.is_file():
            raise RecipeError("there is no such groove file.", path=path, remedy="Check the path.")
        return path
    names = groove_names()
    if text not in names:
        raise RecipeError(
            f"No groove is called {text!r}{declare.nearest_hint(text, names)}.",
            path=of,
            remedy=f"Shipped grooves: {', '.join(names)}"
            + ("." if of else "; a groove of your own is given by its path, ending in .toml."),
        )
    return shipped_folder("recipes") / "groove" / f"{text}.toml"


def _swung(step: int, swing: str) -> int:
    """A step of the straight grid where a player who swings puts it: two to one, in triplets."""
    if swing == "none":
        return step
    beat, place = divmod(step, 12)
    late = {3: 4, 9: 10} if swing == "sixteenths" else {3: 4, 6: 8, 9: 10}
    return 12 * beat + late.get(place, place)
