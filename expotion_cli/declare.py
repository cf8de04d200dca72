"""Settings as fields of frozen dataclasses: each declares its default, its range and its meaning in one place."""

from __future__ import annotations

import dataclasses
import difflib
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

from expotion_cli.errors import RecipeError

Check = Callable[[Any], Any]


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

    return dataclasses.field(default=default, metadata={"check": check, "bounds": (low, high), "doc": doc})


def whole(default: int, low: int, high: int, doc: str) -> Any:
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

    return dataclasses.field(default=default, metadata={"check": check, "bounds": (low, high), "doc": doc})


def text(default: str, doc: str) -> Any:
    """Declare a text; runs of white space become single spaces."""

    def check(value: Any) -> str:
        if not isinstance(value, str):
            raise ValueError("must be text in quotes")
        return " ".join(value.split())

    return dataclasses.field(default=default, metadata={"check": check, "doc": doc})


def flag(default: bool, doc: str) -> Any:
    """Declare something that is so or not."""

    def check(value: Any) -> bool:
        if not isinstance(value, bool):
            raise ValueError("must be true or false")
        return value

    return dataclasses.field(default=default, metadata={"check": check, "doc": doc})


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

    return dataclasses.field(default=default, metadata={"check": check, "doc": doc})


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

    return dataclasses.field(default=default, metadata={"check": check, "doc": doc})


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
        origin = f"{where}: " if where else ""
        raise RecipeError(f"{origin}{shown} = {value!r} {error}.", path=path) from None


def declared(owner: type, key: str) -> Mapping[str, Any]:
    """What a key declares: its check, its meaning, and the bounds of a number."""
    return next(item for item in dataclasses.fields(owner) if item.name == key).metadata


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
    known = [item.name for item in dataclasses.fields(current)]
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
    """` (did you mean 'x'?)` for the closest known name, or nothing."""
    close = difflib.get_close_matches(str(name), list(known), n=1, cutoff=0.5)
    return f" (did you mean {close[0]!r}?)" if close else ""
