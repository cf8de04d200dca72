"""Settings as fields of frozen dataclasses: each declares its default, its range and its meaning in one place."""

from __future__ import annotations

import dataclasses
import difflib
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any, Final

from expotion_cli.errors import RecipeError

Check = Callable[[Any], Any]
_CLOSE = 0.67
"""Two names that share less are different words: "nonsense" is no slip of "pose"."""
_SHORTEST_BEGINNING = 3
_ANY_NAME = {"type": "string", "minLength": 1}


class Unset:
    """The type of `UNSET`: a flag that was not given, as opposed to one given as 0, "" or false."""

    def __repr__(self) -> str:
        return "UNSET"

    def __bool__(self) -> bool:
        return False


UNSET: Final = Unset()


def number(default: float, low: float, high: float, doc: str) -> Any:
    """Declare a number.

    Args:
        default: its value where nobody sets it.
        low: lowest value allowed.
        high: highest value allowed.
        doc: its meaning, in one phrase.
    """

    def check(value: Any) -> float:
        if isinstance(value, bool) or not isinstance(value, (int, float)) or not low <= value <= high:
            raise ValueError(f"must be a number from {low:g} to {high:g}")
        return float(value)

    schema = {"type": "number", "minimum": low, "maximum": high}
    return _field(default, check, schema, doc, bounds=(low, high))


def whole(default: int | None, low: int, high: int, doc: str) -> Any:
    """Declare a whole number.

    Args:
        default: its value where nobody sets it.
        low: lowest value allowed.
        high: highest value allowed.
        doc: its meaning, in one phrase.
    """

    def check(value: Any) -> int:
        if isinstance(value, bool) or not isinstance(value, int) or not low <= value <= high:
            raise ValueError(f"must be a whole number from {low} to {high}")
        return value

    schema = {"type": "integer", "minimum": low, "maximum": high}
    return _field(default, check, schema, doc, bounds=(low, high))


def flag(default: bool, doc: str) -> Any:
    """Declare a choice between true and false."""

    def check(value: Any) -> bool:
        if not isinstance(value, bool):
            raise ValueError("must be true or false")
        return value

    return _field(default, check, {"type": "boolean"}, doc)


def text(default: str, doc: str) -> Any:
    """Declare a text; runs of white space become single spaces."""

    def check(value: Any) -> str:
        if not isinstance(value, str):
            raise ValueError("must be text in quotes")
        return " ".join(value.split())

    return _field(default, check, {"type": "string"}, doc)


def choice(default: str, options: tuple[str, ...], doc: str) -> Any:
    """Declare a choice among several words.

    Args:
        default: its value where nobody sets it.
        options: the words allowed.
        doc: its meaning, in one phrase.
    """

    def check(value: Any) -> str:
        if value not in options:
            raise ValueError(f"must be one of {', '.join(options)}{nearest_hint(value, options)}")
        return str(value)

    return _field(default, check, {"enum": list(options)}, doc)


def names(default: tuple[str, ...], doc: str, known: tuple[str, ...] = ()) -> Any:
    """Declare a list of names without repetitions.

    Args:
        default: its value where nobody sets it.
        doc: its meaning, in one phrase.
        known: the names allowed; empty to allow any.
    """

    def check(value: Any) -> tuple[str, ...]:
        if not isinstance(value, (list, tuple)) or not all(isinstance(name, str) and name for name in value):
            raise ValueError("must be a list of names")
        for name in value if known else ():
            if name not in known:
                raise ValueError(f"has an unknown name{nearest_hint(name, known)}; known: {', '.join(known)}")
        return tuple(dict.fromkeys(value))

    return _field(default, check, {"type": "array", "items": {"enum": list(known)} if known else _ANY_NAME}, doc)


def custom(default: Any, check: Check, schema: Mapping[str, Any], doc: str) -> Any:
    """Declare what none of the others can.

    Args:
        default: its value where nobody sets it.
        check: returns the value as it is to be held; raises ValueError with the end of a sentence ("must be ...").
        schema: the same in JSON Schema.
        doc: its meaning, in one phrase.
    """
    return _field(default, check, schema, doc)


def _field(default: Any, check: Check, schema: Mapping[str, Any], doc: str, **more: Any) -> Any:
    return dataclasses.field(default=default, metadata={"check": check, "schema": schema, "doc": doc, **more})


def checked(owner: type, key: str, value: Any, *, shown: str, where: str = "", path: Path | None = None) -> Any:
    """Hold a value to what its key declares.

    Args:
        owner: the dataclass that declares the key.
        key: the field's name.
        value: as it was given.
        shown: what to call the key in messages.
        where: what to call the value's origin in messages.
        path: the file it came from, if any.

    Returns:
        The value as the dataclass should hold it.

    Raises:
        RecipeError: it is of the wrong kind or out of range.
    """
    check: Check = declared(owner, key)["check"]
    try:
        return check(value)
    except ValueError as error:
        flag_of_key = f"_{where.removeprefix('--').replace('-', '_')}_"
        if where.startswith("--") and flag_of_key in f"_{shown.replace('.', '_')}_":
            raise RecipeError(f"{where} {value!r} {error}.", remedy="Without it the recipe's value counts.") from None
        origin = f"{where}: " if where else ""
        remedy = "Change it, or leave it out for its default."
        raise RecipeError(f"{origin}{shown} = {value!r} {error}.", path=path, remedy=remedy) from None


def default(owner: type, key: str) -> Any:
    """A key's value where nobody sets it."""
    return next(item for item in dataclasses.fields(owner) if item.name == key).default


def declared(owner: type, key: str) -> Mapping[str, Any]:
    """What a key declares: its check, its meaning, and the bounds of a number."""
    return next(item for item in dataclasses.fields(owner) if item.name == key).metadata


def settings_of(table: Any) -> dict[str, Mapping[str, Any]]:
    """The keys that a dataclass declares as settings, with what they declare."""
    return {item.name: item.metadata for item in dataclasses.fields(table) if "check" in item.metadata}


def with_table(current: Any, table: str, values: Any, *, where: str, path: Path | None) -> Any:
    """A copy of one table with some of its keys replaced.

    Args:
        current: the table, a dataclass of declared fields.
        table: its name.
        values: key → value, as they were given.
        where: what to call their origin in messages.
        path: the file they came from, if any.

    Raises:
        RecipeError: this is not a table, a key is unknown, or a value out of range.
    """
    if not isinstance(values, Mapping):
        raise RecipeError(f"{where}: {table!r} must be a table, written as [{table}].", path=path)
    known = list(settings_of(current))
    changes = {}
    for key, value in values.items():
        if key not in known:
            raise unknown_key(f"{table}.{key}", [f"{table}.{name}" for name in known], where=where, path=path)
        changes[key] = checked(type(current), key, value, shown=f"{table}.{key}", where=where, path=path)
    return dataclasses.replace(current, **changes)


def unknown_key(key: str, known: Iterable[str], *, where: str, path: Path | None) -> RecipeError:
    """The error for a key that nothing declares; it suggests the nearest known one.

    Args:
        key: dotted, as it was given.
        known: all keys at this place.
        where: what to call the origin in messages.
        path: the file it came from, if any.
    """
    known = list(known)
    reason = f"{where}: unknown key {key!r}{nearest_hint(key, known)}."
    return RecipeError(reason, path=path, remedy=f"Known keys: {', '.join(known)}.")


def nearest_hint(name: Any, known: Iterable[str]) -> str:
    """` (did you mean 'x'?)` for a known name that this one is surely a slip of, or nothing."""
    written = str(name).lower()
    by_spelling = {each.lower(): each for each in known}
    shared = _shared_tables(written, by_spelling)
    short, word = {each[shared:]: each for each in by_spelling}, written[shared:]
    close = difflib.get_close_matches(word, list(short), n=1, cutoff=_CLOSE)
    if not close and len(word) >= _SHORTEST_BEGINNING:
        close = [each for each in short if each.startswith(word) or sorted(each) == sorted(word)]
    return f" (did you mean {by_spelling[short[close[0]]]!r}?)" if close else ""


def _shared_tables(name: str, others: Iterable[str]) -> int:
    """Length of the tables' names that all begin with: they would make any two keys look alike."""
    begin = name[: name.rfind(".") + 1]
    return len(begin) if all(other.startswith(begin) for other in others) else 0
