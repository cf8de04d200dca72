"""Every exception this package raises on purpose, drawn as a tree.

    ExpotionError
    ├── UsageError                  exit 2   a flag, a recipe or a value is wrong
    │   ├── RecipeError                      a recipe file can't be read or has an unknown key
    │   └── UnknownNameError                 no recipe, model, encoder ... of that name
    ├── ClipError                   per clip one clip can't be scored; the batch goes on
    │   ├── ProbeError                       not a video, truncated, no picture, zero length
    │   ├── DecodeError                      frames or samples can't be read
    │   ├── EmptyStreamError                 an embedding stream has no rows
    │   └── PlanError                        a cue plan can't be read or obeyed
    ├── OutputError                 per clip a result can't be written
    │   └── RefusedError            exit 2   it would replace a file unasked
    ├── EnvironmentProblem          exit 4   something this machine lacks
    │   ├── WeightsError                     weights missing, truncated or of another shape
    │   └── MissingLibraryError              a system library is missing
    └── Interrupted                 exit 130 stopped by the user; run again to resume

Messages say what was wrong, with which file, and what to do about it.
"""

from __future__ import annotations

import contextlib
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any


class ExpotionError(Exception):
    """Base of all errors a user can act on.

    Args:
        reason: what is wrong, one sentence.
        path: the file concerned, if there is one; it leads the message.
        remedy: what to do about it, one sentence.

    Attributes:
        details: for the ledger: what ffmpeg said, or a traceback where nobody foresaw the error; None otherwise.
    """

    exit_code = 1
    details: str | None = None

    def __init__(self, reason: str, *, path: str | Path | None = None, remedy: str | None = None):
        self.reason = reason
        self.path = path if path is None or "://" in str(path) else Path(path)  # a URL is no path
        self.remedy = remedy
        super().__init__(str(self))

    def at(self, path: str | Path) -> ExpotionError:
        """The same error about another file."""
        return _rebuilt(type(self), self.reason, path, self.remedy, self.details)

    def __reduce__(self) -> tuple[Any, ...]:
        return _rebuilt, (type(self), self.reason, self.path, self.remedy, self.details)

    def __str__(self) -> str:
        text = f"{self.path}: {self.reason}" if self.path is not None else self.reason
        return f"{text} {self.remedy}" if self.remedy else text


def _rebuilt(
    kind: type[ExpotionError], reason: str, path: str | Path | None, remedy: str | None, details: str | None
) -> ExpotionError:
    """An error that comes from another process."""
    error = kind(reason, path=path, remedy=remedy)
    error.details = details
    return error


class UsageError(ExpotionError):
    """A flag, a recipe or a value is wrong."""

    exit_code = 2


class RecipeError(UsageError):
    """A recipe file can't be read, or holds an unknown key or a wrong value."""


class UnknownNameError(UsageError):
    """No recipe, model, encoder or stream of that name."""


class ClipError(ExpotionError):
    """One clip can't be scored; the others go on."""


class ProbeError(ClipError):
    """Not a video, truncated, without a picture, or of zero length."""


class DecodeError(ClipError):
    """Frames or samples can't be read from the file."""


class EmptyStreamError(ClipError):
    """An embedding stream has no rows."""


class PlanError(ClipError):
    """A clip's cue plan can't be read, or asks for what can't be done."""


class OutputError(ExpotionError):
    """A result can't be written where it should go."""


class RefusedError(OutputError):
    """A result would replace a file that is somebody else's, was changed, or is of other settings."""

    exit_code = 2


class EnvironmentProblem(ExpotionError):
    """Something this machine lacks."""

    exit_code = 4


class WeightsError(EnvironmentProblem):
    """Weights are missing, truncated, damaged or of another shape."""


class MissingLibraryError(EnvironmentProblem):
    """A system library is missing."""


class Interrupted(ExpotionError):
    """Stopped by the user; finished work stays, a rerun resumes."""

    exit_code = 130


def reason_of(error: BaseException) -> str:
    """Why reading or writing failed, in one line: what the system says, else the error's own first line."""
    text = getattr(error, "strerror", None) or str(error).strip() or type(error).__name__
    return str(text).splitlines()[0]


@contextlib.contextmanager
def reading(
    path: str | Path | None,
    what: str = "it",
    *,
    error: type[ExpotionError] = ClipError,
    remedy: str | None = None,
    also: tuple[type[BaseException], ...] = (),
) -> Iterator[None]:
    """Turn a failure to read a file into an error a user can act on: "the recipe can't be read (Permission denied)".

    Args:
        path: the file, as the message names it.
        what: the subject of the message.
        error: class of the error to raise.
        remedy: what to do about it.
        also: exceptions of the file's parser; `OSError` and text that is not UTF-8 are always covered.

    Raises:
        ExpotionError: of class `error`.
    """
    failures: tuple[type[BaseException], ...] = (OSError, *also)
    try:
        yield
    except UnicodeDecodeError as problem:
        raise error(f"{what} can't be read (not UTF-8 text).", path=path, remedy=remedy) from problem
    except json.JSONDecodeError as problem:
        raise error(f"{what} can't be read (not JSON: {problem}).", path=path, remedy=remedy) from problem
    except failures as problem:
        raise error(f"{what} can't be read ({reason_of(problem)}).", path=path, remedy=remedy) from problem


@contextlib.contextmanager
def writing(
    path: str | Path | None,
    what: str = "it",
    *,
    error: type[ExpotionError] = OutputError,
    remedy: str | None = None,
    also: tuple[type[BaseException], ...] = (),
) -> Iterator[None]:
    """Turn a failure to write a file into an error a user can act on: "the page can't be written (No space left)".

    Args:
        path: the file or folder, as the message names it.
        what: the subject of the message.
        error: class of the error to raise.
        remedy: what to do about it.
        also: further exceptions that mean the same; `OSError` is always covered.

    Raises:
        ExpotionError: of class `error`.
    """
    failures: tuple[type[BaseException], ...] = (OSError, *also)
    try:
        yield
    except failures as problem:
        raise error(f"{what} can't be written ({reason_of(problem)}).", path=path, remedy=remedy) from problem
