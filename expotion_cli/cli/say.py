"""Output of the commands: results on standard output, notes and errors on standard error, exit codes by error class."""

from __future__ import annotations

import functools
import json
import os
import sys
from collections.abc import Callable
from typing import Any

import typer

from expotion_cli.errors import ExpotionError, Interrupted

TYPER_OPTIONS: dict[str, Any] = {
    "add_completion": False,
    "pretty_exceptions_enable": False,
    "context_settings": {"help_option_names": ["-h", "--help"]},
}
"""Options of every typer app here."""


def error_record(error: ExpotionError) -> dict[str, Any]:
    """An error as plain values."""
    path = str(error.path) if error.path is not None else None
    return {"reason": error.reason, "path": path, "remedy": error.remedy}


def say_error(error: ExpotionError, label: str = "error") -> None:
    """One line on standard error."""
    say_aside(f"{error}", label)


def say_aside(text: str, label: str = "note") -> None:
    """One line on standard error; the label is coloured on a terminal."""
    if sys.stderr.isatty() and "NO_COLOR" not in os.environ:
        colour = {"note": "36", "licence": "36", "interrupted": "33"}.get(label, "31")
        label = f"\x1b[1;{colour}m{label}\x1b[0m"
    print(f"{label}: {text}", file=sys.stderr, flush=True)


def say_json(value: Any) -> None:
    """JSON on standard output."""
    print(json.dumps(value, indent=2, ensure_ascii=False, allow_nan=False), flush=True)


def handle_errors(command: Callable[..., int | None]) -> Callable[..., None]:
    """Turn a command's return value and the errors it meets into an exit code and one clear line."""

    @functools.wraps(command)
    def wrapped(*args: Any, **kwargs: Any) -> None:
        try:
            code = command(*args, **kwargs) or 0
        except KeyboardInterrupt:
            error: ExpotionError = Interrupted("stopped.", remedy="Run the same command again to go on.")
            code = _give_up(error, kwargs)
        except ExpotionError as problem:
            code = _give_up(problem, kwargs)
        except BrokenPipeError:  # the reader of our output has closed the pipe, as `head` does
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
            code = 0
        raise typer.Exit(code)

    return wrapped


def _give_up(error: ExpotionError, options: dict[str, Any]) -> int:
    say_error(error, "interrupted" if isinstance(error, Interrupted) else "error")
    if options.get("as_json"):
        say_json({"exit_code": error.exit_code, "error": error_record(error)})
    return error.exit_code
