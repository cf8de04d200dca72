"""Standard output and error that never fail a command, and the last resort for errors that nobody foresaw.

A batch goes on when nobody can read what it prints: the reader of a pipe has gone (`| head`), the disk behind it is
full, or a stream was closed from the start.
"""

from __future__ import annotations

import _thread
import atexit
import os
import platform
import signal
import sys
import tempfile
import threading
import time
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Any

from expotion_cli.errors import ExpotionError, Interrupted
from expotion_cli.storage import cache_root
from expotion_cli.version import __version__

STOPPED = Interrupted("stopped.", remedy="Run the same command again to go on.")
STOP_SIGNALS = (signal.SIGINT, signal.SIGTERM)
"""Signals that end the program."""
REPEATED_S = 0.02  # until a lost Ctrl-C comes again


class GuardedStream:
    """A text stream whose trouble is kept instead of raised; after the first, nothing is written any more.

    Args:
        stream: the one to write to.

    Attributes:
        lost: the trouble, if there was any.
    """

    def __init__(self, stream: Any):
        self._stream = stream
        self.lost: Exception | None = None

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)

    def write(self, text: str) -> int:
        """Write text, or drop it once the stream is lost."""
        if self.lost is None:
            try:
                return int(self._stream.write(text))
            except (OSError, ValueError) as trouble:
                self._lose(trouble)
        return len(text)

    def flush(self) -> None:
        """Hand on what was written."""
        if self.lost is None:
            try:
                self._stream.flush()
            except (OSError, ValueError) as trouble:
                self._lose(trouble)

    def _lose(self, trouble: Exception) -> None:
        self.lost = trouble
        try:  # what is still buffered goes nowhere, so that closing the stream at the end is no trouble
            nowhere = os.open(os.devnull, os.O_WRONLY)
            os.dup2(nowhere, self._stream.fileno())
            os.close(nowhere)
        except (OSError, ValueError):
            pass


def guard_console() -> None:
    """Put guards before standard output and error; streams that are closed lead nowhere, not into the next file."""
    for number in (0, 1, 2):
        try:
            os.fstat(number)
        except OSError:
            os.open(os.devnull, os.O_RDWR)  # the lowest free number: this one
    for number, name in ((1, "stdout"), (2, "stderr")):
        stream = getattr(sys, name) or os.fdopen(number, "w")
        if hasattr(stream, "reconfigure"):
            stream.reconfigure(errors="backslashreplace")
        setattr(sys, name, GuardedStream(stream))


def run_guarded(command: Callable[[], Any], say_error: Callable[[ExpotionError], object]) -> None:
    """Run the program and leave Python with its exit code: whatever happens, no traceback reaches the user.

    Args:
        command: imports and calls the program; may end by SystemExit.
        say_error: tells the user.
    """

    def last_resort(kind: type[BaseException], error: BaseException, *_: Any) -> None:
        if not issubclass(kind, SystemExit | KeyboardInterrupt):
            say_error(unforeseen(error))

    guard_console()
    sys.excepthook = last_resort
    sys.unraisablehook = _unraisable
    threading.excepthook = lambda about: last_resort(about.exc_type, about.exc_value or about.exc_type())
    atexit.register(_go_deaf)  # registered first, called last
    code = _outcome(command, say_error)
    _leave_with(code)
    sys.stdout.flush()
    lost = getattr(sys.stdout, "lost", None)
    if lost is not None and not isinstance(lost, BrokenPipeError):
        reason = getattr(lost, "strerror", None) or str(lost)
        say_error(ExpotionError(f"standard output could not be written ({reason})."))
    sys.exit(code)


def _outcome(command: Callable[[], Any], say_error: Callable[[ExpotionError], object]) -> Any:
    """Run the command; returns the exit code, once the user is told."""
    try:
        command()
    except SystemExit as left:
        if left.code == STOPPED.exit_code and not _is_told():
            say_error(STOPPED)  # Typer leaves without a word if it is interrupted while it reads the arguments
        return left.code
    except KeyboardInterrupt:
        say_error(STOPPED)
        return STOPPED.exit_code
    except BaseException as error:  # libraries in other languages raise errors of their own kind
        told = unforeseen(error)
        say_error(told)
        return told.exit_code
    return 0


def _leave_with(code: Any) -> None:
    """All is done and told: a signal ends what still delays the end, and changes the exit code no more."""

    def leave(*_: Any) -> None:
        raise SystemExit(code)

    for number in STOP_SIGNALS:
        signal.signal(number, leave)


def _unraisable(about: Any) -> None:
    """Ctrl-C can come while Python runs what may not fail, a destructor say, which drops it: it comes again then."""
    if issubclass(about.exc_type, KeyboardInterrupt):
        threading.Timer(REPEATED_S, _interrupt_again).start()
    elif not issubclass(about.exc_type, SystemExit):
        sys.__unraisablehook__(about)


def _interrupt_again() -> None:
    if hasattr(signal, "pthread_kill"):  # ends what the main thread waits for, too
        signal.pthread_kill(threading.main_thread().ident or 0, signal.SIGINT)
    else:
        _thread.interrupt_main()


def _go_deaf() -> None:
    """Python gives signals their first meaning back, which is to kill, before it takes its modules apart."""
    for number in STOP_SIGNALS:
        signal.signal(number, signal.SIG_IGN)


def _is_told() -> bool:
    """Whether the user has read of an interruption."""
    say = sys.modules.get("expotion_cli.cli.say")
    return say is not None and "interrupted" in say.LABELS_SAID


def unforeseen(error: BaseException) -> ExpotionError:
    """An error that nobody foresaw, as one that a user can read; its traceback is kept in a log file.

    Python and some libraries make another error of a Ctrl-C that comes while they load: `STOPPED` is what it is.
    """
    if _comes_of_stopping(error):
        return STOPPED
    said = (str(error).strip() or "no message").splitlines()[0][:200]
    reason = f"unexpected {type(error).__name__}: {said.rstrip('.')}."
    details = "".join(traceback.format_exception(error))
    log = _write_log(details)
    where = f"The details are in {log}." if log is not None else "The details could not be written anywhere."
    told = ExpotionError(reason, remedy=f"{where} Please report it.")
    told.details = details
    return told


def _comes_of_stopping(error: BaseException | None) -> bool:
    while error is not None:
        if isinstance(error, KeyboardInterrupt):
            return True
        error = error.__cause__ or (None if error.__suppress_context__ else error.__context__)
    return False


def _write_log(details: str) -> Path | None:
    name = f"expotion-{time.strftime('%Y%m%d-%H%M%S')}-{os.getpid()}.log"
    machine = f"expotion {__version__}, Python {platform.python_version()}, {platform.platform()}"
    text = f"{machine}\n{' '.join(map(repr, sys.argv))}\n\n{details}"
    for folder in (cache_root() / "logs", Path(tempfile.gettempdir())):
        try:
            folder.mkdir(parents=True, exist_ok=True)
            handle = os.open(folder / name, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
            with os.fdopen(handle, "w", encoding="utf-8", errors="backslashreplace") as file:
                file.write(text)
        except OSError:
            continue
        return folder / name
    return None
