"""Output of the commands: results on standard output, notes and errors on standard error, exit codes by error class."""

from __future__ import annotations

import functools
import json
import os
import re
import sys
from collections.abc import Callable
from typing import Any

import click
import typer

from expotion_cli.cli.console import STOPPED, unforeseen
from expotion_cli.errors import ExpotionError, Interrupted, OutputError
from expotion_cli.version import __version__

TYPER_OPTIONS: dict[str, Any] = {
    "pretty_exceptions_enable": False,
    "context_settings": {"help_option_names": ["-h", "--help"]},
}
"""Options of every typer app here."""


def _print_version(context: typer.Context, wanted: bool) -> None:
    if wanted and not context.resilient_parsing:
        print(f"{context.find_root().info_name} {__version__}")
        raise typer.Exit


VERSION = typer.Option("--version", callback=_print_version, is_eager=True, help="Print the version and exit.")

_NEVER_RAW = re.compile("[\x00-\x1f\x7f-\x9f\u200e\u200f\u2028-\u202e\u2066-\u2069\ud800-\udfff]")
"""Control characters, changes of writing direction, bytes that are no UTF-8: names must not steer a terminal."""


def shown(text: str) -> str:
    """Text on one line that a terminal shows as it is: names from outside may hold anything."""
    return _NEVER_RAW.sub(_escape, text)


def _escape(found: re.Match[str]) -> str:
    code = ord(found[0])
    if 0xDC80 <= code <= 0xDCFF:  # a byte that is no UTF-8, as Python keeps it in names
        return f"\\x{code - 0xDC00:02x}"
    return repr(found[0])[1:-1]


def say(text: str, *, file: Any = None) -> None:
    """One line on standard output, or on another stream."""
    print(shown(text), file=file or sys.stdout, flush=True)


LABELS_SAID: set[str] = set()
"""Labels of the lines that were said so far."""


def error_record(error: ExpotionError) -> dict[str, Any]:
    """An error as plain values."""
    path = str(error.path) if error.path is not None else None
    return {"reason": error.reason, "path": path, "remedy": error.remedy}


def say_error(error: ExpotionError, label: str = "error") -> None:
    """One line on standard error."""
    say_aside(f"{error}", label)


def say_aside(text: str, label: str = "note") -> None:
    """One line on standard error; the label is coloured on a terminal."""
    LABELS_SAID.add(label)
    if sys.stderr.isatty() and "NO_COLOR" not in os.environ:
        colour = {"note": "36", "licence": "36", "interrupted": "33"}.get(label, "31")
        label = f"\x1b[1;{colour}m{label}\x1b[0m"
    print(f"{label}: {shown(text)}", file=sys.stderr, flush=True)


def say_json(value: Any) -> None:
    """JSON on standard output; where its encoding can't hold a character, an escape that JSON knows stands there.

    Raises:
        OutputError: standard output can't be written, and not because its reader has gone.
    """
    text = json.dumps(value, indent=2, ensure_ascii=False, allow_nan=False)
    try:
        text.encode(sys.stdout.encoding or "utf-8")
    except UnicodeEncodeError:
        text = json.dumps(value, indent=2, allow_nan=False)
    print(text, flush=True)
    lost = getattr(sys.stdout, "lost", None)
    if lost is not None and not isinstance(lost, BrokenPipeError):
        raise OutputError("the JSON summary is lost.", remedy="Free some space, and run the same command again.")


def handle_errors(command: Callable[..., int | None]) -> Callable[..., None]:
    """Turn a command's return value and the errors it meets into an exit code and one clear line."""

    @functools.wraps(command)
    def wrapped(*args: Any, **kwargs: Any) -> None:
        try:
            code = command(*args, **kwargs) or 0
        except (SystemExit, click.ClickException, click.exceptions.Exit, click.Abort):
            raise
        except KeyboardInterrupt:
            code = _give_up(STOPPED, kwargs)
        except ExpotionError as problem:
            code = _give_up(problem, kwargs)
        except BaseException as problem:  # libraries in other languages raise errors of their own kind
            code = _give_up(unforeseen(problem), kwargs)
        raise typer.Exit(code)

    return wrapped


def _give_up(error: ExpotionError, options: dict[str, Any]) -> int:
    say_error(error, "interrupted" if isinstance(error, Interrupted) else "error")
    if options.get("as_json") and getattr(sys.stdout, "lost", None) is None:
        say_json({"exit_code": error.exit_code, "error": error_record(error)})
    return error.exit_code
