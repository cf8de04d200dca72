"""`expotion demo`: clips to try the tool with."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from expotion_cli.cli.say import handle_errors


@handle_errors
def demo(
    folder: Annotated[Path, typer.Argument(help="Folder for the clips; created if missing.", show_default=False)],
) -> None:
    """Write three short clips of a moving portrait, to try the tool with.

    Example: expotion demo clips && expotion-score clips
    """
    from expotion_cli.demo import write_demo_clips

    for clip in write_demo_clips(folder):
        print(f"{clip.path} · {clip.about}")
