"""One guard for failures: what goes wrong with one clip is that clip's failure, and the others go on."""

from __future__ import annotations

import contextlib
import traceback
from collections.abc import Callable, Iterator
from pathlib import Path

from expotion_cli.errors import ClipError, ExpotionError, Interrupted, OutputError, reason_of

Failed = Callable[[ExpotionError], object]
"""Called with what went wrong; `list.append` will do."""


@contextlib.contextmanager
def guard(path: str | Path, failed: Failed, *, fatal: tuple[type[BaseException], ...] = ()) -> Iterator[None]:
    """Hand whatever goes wrong inside to `failed`, as an error that names a file.

    Args:
        path: the file at work; it leads the message of errors that name none themselves.
        failed: gets the error.
        fatal: kinds of errors that end the whole run and are raised as they are; an interruption always is.
    """
    ends: tuple[type[BaseException], ...] = (Interrupted, *fatal)
    try:
        yield
    except ends:
        raise
    except Exception as error:
        failed(as_failure(error, path))


def as_failure(error: Exception, path: str | Path | None) -> ExpotionError:
    """An exception as an error that a user can read.

    Args:
        error: what was raised.
        path: the file at work, if there is one.

    Returns:
        The error itself if it was raised on purpose; a clip's names the file. What nobody foresaw carries its traceback
        in `details`.
    """
    if isinstance(error, ClipError) and error.path is None and path is not None:
        return type(error)(error.reason, path=path, remedy=error.remedy)
    if isinstance(error, ExpotionError):
        return error
    if isinstance(error, OSError):
        return OutputError(f"{reason_of(error)}.", path=error.filename or path)
    reason = f"unexpected {type(error).__name__}: {error}."
    failure = ExpotionError(reason, path=path, remedy="Please report it; the ledger or a rerun shows the details.")
    failure.details = "".join(traceback.format_exception(error))
    return failure
