"""Flags that several commands share, as a recipe takes them."""

from __future__ import annotations

import re
from fractions import Fraction
from pathlib import Path
from typing import TYPE_CHECKING, Any

from expotion_cli.errors import UsageError

if TYPE_CHECKING:
    from expotion_cli.vision.encoder import StreamSource

_UNITS = {
    "b": 1,
    **{f"{prefix}b": 1000 ** (power + 1) for power, prefix in enumerate("kmgt")},
    **{f"{prefix}ib": 1024 ** (power + 1) for power, prefix in enumerate("kmgt")},
}


def given(value: Any) -> Any:
    """A flag's value, or `UNSET` where it was left out."""
    from expotion_cli.recipe import UNSET

    return UNSET if value is None else value


def seed(text: str | None) -> Any:
    """`--seed`: a number, or a policy in words."""
    return int(text) if text is not None and text.lstrip("-").isdecimal() else given(text)


def streams(text: str | None) -> Any:
    """`--streams` where clips have to be looked at: names with commas between them, or none.

    Raises:
        UsageError: a folder of features is named.
    """
    names, features = streams_and_features(text)
    if features:
        raise UsageError(
            f"--streams {text!r} names features computed elsewhere, which this command has no use for.",
            remedy="Give names of encoders alone.",
        )
    return names


def streams_and_features(text: str | None) -> tuple[Any, tuple[StreamSource, ...]]:
    """`--streams`: names with commas between them, some with `=FOLDER` or `=FOLDER@RATE` behind; or none.

    Returns:
        The names, and the folders of features computed elsewhere.

    Raises:
        UsageError: a part has no name, or no folder behind its `=`.
    """
    if text is None:
        return given(None), ()
    parts = [part.strip() for part in text.split(",") if part.strip()]
    if parts == ["none"]:
        return (), ()
    split = [part.partition("=") for part in parts]
    return [name.strip() for name, _, _ in split], tuple(_features(name, place) for name, mark, place in split if mark)


def size(text: str, flag: str) -> int:
    """A number of bytes: 500MB, 2GB, 1.5 GiB, 0. A bare number says too little unless it is 0.

    Raises:
        UsageError: it is none.
    """
    found = re.fullmatch(r"([0-9]+\.?[0-9]*|\.[0-9]+)\s*([a-z]*)", text.strip().lower())
    if found is not None and found[2] in _UNITS:
        return int(Fraction(found[1]) * _UNITS[found[2]])
    if found is not None and not found[2] and not float(found[1]):
        return 0
    raise UsageError(f"{flag} {text!r} is no size.", remedy="Give a number and its unit, such as 500MB or 2GB, or 0.")


def _features(name: str, place: str) -> StreamSource:
    from expotion_cli.vision.encoder import StreamSource

    folder, mark, rate = place.strip().rpartition("@")
    rate_hz = None
    if mark and not Path(place).expanduser().is_dir():  # a folder's own name may hold an @
        try:
            rate_hz = float(rate)
        except ValueError:
            rate_hz = 0.0
        if not 0 < rate_hz < 1000:
            raise UsageError(f"--streams: {rate!r} is no number of rows a second.", remedy=f"Write {name}=FOLDER@25.")
    else:
        folder = place.strip()
    if not re.fullmatch(r"[\w-]+", name.strip()) or not folder:
        remedy = "Write NAME=FOLDER, for example synchformer=features."
        raise UsageError(f"--streams: {name}={place} names no stream with a folder.", remedy=remedy)
    return StreamSource(name.strip(), folder=Path(folder).expanduser(), rate_hz=rate_hz)
