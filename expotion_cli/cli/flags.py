"""Parses flags that several commands share."""

from __future__ import annotations

import inspect
import re
from collections.abc import Callable, Mapping, Sequence
from fractions import Fraction
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from expotion_cli.errors import UsageError
from expotion_cli.storage import expanded

if TYPE_CHECKING:
    from expotion_cli.media.clip import Tracks
    from expotion_cli.recipe import Recipe
    from expotion_cli.scoring.extras import Extras
    from expotion_cli.scoring.redo import Redo
    from expotion_cli.vision.encoder import StreamSource

VideoTrack = Annotated[int | None, typer.Option(help="Which picture of clips that hold several: 1, 2, ...")]

_UNITS = {
    "b": 1,
    **{f"{prefix}b": 1000 ** (power + 1) for power, prefix in enumerate("kmgt")},
    **{f"{prefix}ib": 1024 ** (power + 1) for power, prefix in enumerate("kmgt")},
}


def given(value: Any) -> Any:
    """A flag's value, or `UNSET` if it was not given."""
    from expotion_cli.recipe import UNSET

    return UNSET if value is None else value


def recipe_with(name: str, flags: Mapping[str, Mapping[str, Any]]) -> Recipe:
    """A recipe with the values of flags laid over it; what is wrong is said of its flag.

    Args:
        name: a shipped recipe's name, or a path.
        flags: flag → dotted keys and values, see `Recipe.override`.

    Raises:
        RecipeError, UnknownNameError: there is no such recipe, or a value is out of range.
    """
    from expotion_cli.recipe import load_recipe

    chosen = load_recipe(name)
    for flag, values in flags.items():
        chosen = chosen.override(values, source=flag)
    return chosen


def seed(text: str | None) -> Any:
    """Parse `--seed`: a number, "per-clip" or "per-clip:N"."""
    return int(text) if text is not None and text.lstrip("-").isdecimal() else given(text)


def melody(text: str | None) -> Any:
    """Parse `--melody`: "mini", or a file's path, made absolute for processes that run elsewhere."""
    from expotion_cli.music.identity import MINI

    return given(text) if text in (None, "", MINI) else str(expanded(text).absolute())


def names(text: str | None) -> Any:
    """Parse a list of names separated by commas, or none."""
    if text is None:
        return given(None)
    parts = tuple(part.strip().lower() for part in text.split(",") if part.strip())
    return () if parts == ("none",) else parts


def extras(music_only: str | None, stems: str | None) -> Extras:
    """Parse `--music-only` and `--stems`.

    Raises:
        UsageError: no such format.
    """
    from expotion_cli.scoring.extras import Extras, check

    wanted = Extras(*((text or "").strip().lower() for text in (music_only, stems)))
    check(wanted)
    return wanted


def name_by(text: str | None) -> tuple[str, ...]:
    """Parse `--name-by`: what results are named by.

    Raises:
        UsageError: they can't be named by that.
    """
    from expotion_cli.scoring.naming import NAMED_BY

    parts = tuple(dict.fromkeys(part.strip().lower() for part in (text or "").split(",") if part.strip()))
    for part in parts:
        if part not in NAMED_BY:
            raise UsageError(f"--name-by {part!r} is unknown.", remedy=f"Use {', '.join(NAMED_BY)}.")
    return parts


def streams(text: str | None) -> Any:
    """Parse `--streams` for commands that encode clips themselves: names separated by commas, or none.

    Raises:
        UsageError: it names a folder of features.
    """
    names, features = streams_and_features(text)
    if features:
        raise UsageError(
            f"--streams {text!r} names a folder of features, which this command does not read.",
            remedy="Give names of encoders only.",
        )
    return names


def streams_and_features(text: str | None) -> tuple[Any, tuple[StreamSource, ...]]:
    """Parse `--streams`: names separated by commas, each optionally with `=FOLDER` or `=FOLDER@RATE`; or none.

    Returns:
        The names, and the folders of features computed elsewhere.

    Raises:
        UsageError: a part lacks its name, or the folder after `=`.
    """
    if text is None:
        return given(None), ()
    parts = [part.strip() for part in text.split(",") if part.strip()]
    if parts == ["none"]:
        return (), ()
    split = [part.partition("=") for part in parts]
    return [name.strip() for name, _, _ in split], tuple(_features(name, place) for name, mark, place in split if mark)


def tracks(video: int | None, audio: str | None) -> Tracks:
    """Parse `--video-track` and `--audio-track`: numbers from 1, of sound several separated by commas.

    Raises:
        UsageError: that is no number of a track.
    """
    from expotion_cli.media.clip import Tracks

    numbers = [part.strip() for part in audio.split(",")] if audio is not None else []
    if video is not None and video < 1:
        raise UsageError(f"--video-track {video} is no track.", remedy="Give 1 or more.")
    if not all(number.isdecimal() and int(number) >= 1 for number in numbers):
        raise UsageError(f"--audio-track {audio!r} is no track.", remedy="Give a number such as 2, or 1,3 to mix them.")
    return Tracks(video, tuple(dict.fromkeys(map(int, numbers))))


def redo(spans: Sequence[str] | None, own_seed: int | None, prompt: str | None, *, overwrite: bool) -> Redo | None:
    """Parse `--redo`, `--redo-seed` and `--redo-prompt`.

    Args:
        spans: of `--redo`.
        own_seed: of the bars.
        prompt: of the bars.
        overwrite: whether `--overwrite` was given.

    Raises:
        UsageError: a span is none, or flags don't go together.
    """
    from expotion_cli.scoring.redo import Redo
    from expotion_cli.spans import read_spans
    from expotion_cli.timed_prompts import is_timed

    if not spans:
        if own_seed is not None or prompt is not None:
            flag = "--redo-seed" if own_seed is not None else "--redo-prompt"
            raise UsageError(
                f"{flag} says how to redo bars, but not which.", remedy="Add --redo, such as --redo 12-18.5."
            )
        return None
    if overwrite:
        raise UsageError(
            "--redo keeps the rest of a result, --overwrite makes all of it anew.", remedy="Leave one of them out."
        )
    if prompt is not None and not prompt.strip():
        raise UsageError("--redo-prompt is empty.", remedy="Describe the music of these bars, or leave it out.")
    if prompt is not None and is_timed(prompt):
        raise UsageError("--redo-prompt takes words without times.", remedy="Pass --redo for each part by itself.")
    return Redo(read_spans(spans, "--redo"), own_seed, None if prompt is None else " ".join(prompt.split()))


def size(text: str, flag: str) -> int:
    """Parse a number of bytes: 500MB, 2GB, 1.5 GiB, 0. Numbers other than 0 need a unit.

    Raises:
        UsageError: it is not a size.
    """
    found = re.fullmatch(r"([0-9]+\.?[0-9]*|\.[0-9]+)\s*([a-z]*)", text.strip().lower())
    if found is not None and found[2] in _UNITS:
        return int(Fraction(found[1]) * _UNITS[found[2]])
    if found is not None and not found[2] and not float(found[1]):
        return 0
    raise UsageError(f"{flag} {text!r} is not a size.", remedy="Give a number with a unit, such as 500MB or 2GB, or 0.")


def _features(name: str, place: str) -> StreamSource:
    from expotion_cli.vision.encoder import StreamSource

    folder, mark, rate = place.strip().rpartition("@")
    rate_hz = None
    if mark and not expanded(place).is_dir():  # a folder's name may contain an @
        try:
            rate_hz = float(rate)
        except ValueError:
            rate_hz = 0.0
        if not 0 < rate_hz < 1000:
            raise UsageError(
                f"--streams: {rate!r} is not a rate in rows per second.", remedy=f"Write {name}=FOLDER@25."
            )
    else:
        folder = place.strip()
    if not re.fullmatch(r"[\w-]+", name.strip()) or not folder:
        remedy = "Write NAME=FOLDER, for example synchformer=features."
        raise UsageError(f"--streams: {name}={place} is not a stream with a folder.", remedy=remedy)
    return StreamSource(name.strip(), folder=expanded(folder), rate_hz=rate_hz)


def batch_size(text: str) -> int | str:
    """Parse `--batch-size`: auto, or a number.

    Raises:
        UsageError: it is neither.
    """
    if text == "auto":
        return text
    if not text.isdecimal() or int(text) < 1:
        raise UsageError(f"--batch-size {text!r} is out of range.", remedy="Give auto, or 1 or more.")
    return int(text)


def page_path(path: Path) -> Path:
    """Parse `--html`: the page's file; a path that doesn't end in .html or .htm is the folder that holds it."""
    path = expanded(path)
    return path if path.suffix.lower() in (".html", ".htm") else path / "index.html"


def tempo(text: str | None) -> dict[str, Any]:
    """The recipe keys that `--tempo` sets: one tempo, or a range like 80-120.

    Raises:
        UsageError: it is neither.
    """
    if text is None:
        return {}
    low, dash, high = text.partition("-")
    try:
        slowest = float(low)
        return {"tempo.min": slowest, "tempo.max": float(high) if dash else slowest}
    except ValueError:
        remedy = "Give a number like 96, or a range like 80-120."
        raise UsageError(f"--tempo {text!r} is not a tempo.", remedy=remedy) from None


def from_python(name: str) -> Callable[[Callable[..., None]], Callable[..., None]]:
    """Keep a parameter of a command from the command line: other commands give it."""

    def decorate(command: Callable[..., None]) -> Callable[..., None]:
        signature = inspect.signature(command, eval_str=True)
        kept = [parameter for parameter in signature.parameters.values() if parameter.name != name]
        command.__signature__ = signature.replace(parameters=kept)  # type: ignore[attr-defined]
        return command

    return decorate
