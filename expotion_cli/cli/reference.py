"""Every command with its arguments and flags as a page, from the same texts as `--help`.

`python -m expotion_cli.cli.reference > docs/commands.md` writes it; a test keeps the page equal.
"""

from __future__ import annotations

import inspect
import re
from collections.abc import Iterator
from typing import Any

HEAD = """# Commands

What `--help` says, on one page; `python -m expotion_cli.cli.reference > docs/commands.md` writes it. `expotion-score`
is `expotion score`. `-h` prints a command's help; `expotion --version` and `expotion-score --version` print the
version, `--install-completion` teaches your shell to complete.
"""


def page() -> str:
    """The page as Markdown."""
    parts = [HEAD.rstrip()]
    for path, command in commands():
        parts += ["", f"## {' '.join(('expotion', *path))}", "", _help(command), *_table(command)]
    return "\n".join(parts) + "\n"


def commands() -> Iterator[tuple[tuple[str, ...], Any]]:
    """(words after `expotion`, command) of every command and group below `expotion`, subcommands after theirs."""
    from typer.main import get_command

    from expotion_cli.cli.app import app

    def walk(command: Any, path: tuple[str, ...]) -> Iterator[tuple[tuple[str, ...], Any]]:
        for name, child in getattr(command, "commands", {}).items():
            yield (*path, name), child
            yield from walk(child, (*path, name))

    yield from walk(get_command(app), ())


def _help(command: Any) -> str:
    paragraphs = inspect.cleandoc(command.help or "").split("\n\n")
    return _plain("\n\n".join(" ".join(paragraph.split()) for paragraph in paragraphs))


def _table(command: Any) -> list[str]:
    rows = []
    for parameter in command.params:
        if parameter.name == "help" or getattr(parameter, "hidden", False):
            continue
        if parameter.param_type_name == "argument":
            names = f"`{parameter.metavar or parameter.name.upper()}`"
        else:
            names = ", ".join(f"`{each}`" for each in (*parameter.opts, *parameter.secondary_opts))
        rows.append(f"| {names} | {_default(parameter)} | {_cell(parameter.help or '')} |")
    return ["", "| | default | |", "|---|---|---|", *rows] if rows else []


def _default(parameter: Any) -> str:
    shown, value = parameter.show_default, parameter.default
    if isinstance(shown, str):
        return _cell(shown)
    if parameter.secondary_opts:
        return f"`{(parameter.opts if value else parameter.secondary_opts)[0]}`" if value is not None else ""
    if getattr(parameter, "is_flag", False) or value is None or callable(value) or not shown:
        return "needed" if parameter.required else ""
    return f"`{value}`"


def _cell(text: str) -> str:
    return " ".join(_plain(text).split()).replace("|", "\\|")


def _plain(text: str) -> str:
    """Text without the escapes that rich needs."""
    return re.sub(r"\\\[", "[", text)


if __name__ == "__main__":
    print(page(), end="")
