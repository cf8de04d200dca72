"""`expotion doctor`: what this machine lacks, and how to mend it."""

from __future__ import annotations

import os
import sys
from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer

from expotion_cli.cli.say import TYPER_OPTIONS, handle_errors, say, say_json

_MARKS = {"fine": ("✓", "32"), "optional": ("–", "36"), "wrong": ("✗", "31")}


@handle_errors
def doctor(
    out: Annotated[Path, typer.Option("--out", "-o", help="Folder that results would go to.")] = Path("scored"),
    device: Annotated[str, typer.Option(help="Device to look at: auto, cpu, cuda or cuda:N.")] = "auto",
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> int:
    """Check this machine: libraries, device, ffmpeg, models, encoders, soundfont, cache, disk; say how to mend each.

    Exit code 0: clips can be scored as they should; 1: something must be mended. Nothing is changed or downloaded.
    """
    from expotion_cli.scoring.health import WRONG, examine

    found = []
    for finding in examine(out, device):
        found.append(finding)
        if not as_json:
            mark, colour = _MARKS[finding.state]
            if sys.stdout.isatty() and not os.environ.get("NO_COLOR"):
                mark = f"\x1b[{colour}m{mark}\x1b[0m"
            print(f"{mark} ", end="")
            say(f"{finding.name}: {finding.said}")
            if finding.remedy:
                say(f"    {finding.remedy}")
    wrong = sum(finding.state == WRONG for finding in found)
    if as_json:
        say_json({"exit_code": int(wrong > 0), "checks": [asdict(finding) for finding in found]})
    elif wrong:
        say(f"\n{wrong} thing{'s' * (wrong > 1)} to mend.".lstrip("\n"))
    else:
        say("Nothing to mend.")
    return int(wrong > 0)


doctor_app = typer.Typer(add_completion=False, **TYPER_OPTIONS)
doctor_app.command()(doctor)
