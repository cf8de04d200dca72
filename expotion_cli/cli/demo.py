"""`expotion demo`: clips to try the tool with."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from expotion_cli.cli.say import honest
from expotion_cli.errors import UsageError


@honest
def demo(
    folder: Annotated[Path, typer.Argument(help="Folder for the clips; made if missing.", show_default=False)],
) -> None:
    """Write three short clips of a moving portrait, to try the tool with."""
    from expotion_cli.demo import write_demo_clips

    try:
        folder.mkdir(parents=True, exist_ok=True)
        clips = write_demo_clips(folder)
    except OSError as error:
        raise UsageError(
            f"the clips can't be written there ({error.strerror}).", path=folder, remedy="Choose another folder."
        ) from error
    for clip in clips:
        print(f"{folder / clip.name} · {clip.description}")
