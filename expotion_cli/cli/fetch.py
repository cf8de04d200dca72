"""`expotion fetch`: download a music model or an encoder that does not ship."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Annotated, Any

import typer

from expotion_cli.cli import complete
from expotion_cli.cli.say import handle_errors, say_aside

if TYPE_CHECKING:
    from expotion_cli.weights.fetch import Progress

WIDE = 100
"""Columns that bar, speed and time left need beside a name."""


@handle_errors
def fetch(
    name: Annotated[
        str,
        typer.Argument(
            help="A name from `expotion models`, or its hub id.", show_default=False, autocompletion=complete.models
        ),
    ],
) -> None:
    """Download the weights of a model or an encoder, verify them and pin their versions.

    Only the files in its manifest are downloaded; each is verified, none is executed. Run it again after an
    interruption to resume. Files you put there by hand are verified, too.
    """
    from expotion_cli.weights.fetch import fetch as download
    from expotion_cli.weights.manifest import find_manifest, size_text

    manifest = find_manifest(name)
    if manifest.ships:
        manifest.require()
        place = manifest.folder or next((file.path for file in manifest.files), "nothing is needed")
        print(f"{manifest.name} comes with the package: {place}")
        return
    say_aside(f"{manifest.name} is under {manifest.licence}", "licence")
    with _Progress() as report:
        lock = download(manifest, on_progress=report)
    size = size_text(sum(pin.num_bytes or 0 for pin in lock.pins.values()))
    pinned = f"{lock.repo} at {lock.revision[:12]}"
    if not manifest.repo:
        pinned = ", ".join(f"sha256 {str(pin.sha256)[:12]}" for pin in lock.pins.values())
    print(f"{manifest.name} → {manifest.folder} · {size} · {pinned}")


class _Progress:
    """Progress bars on a terminal, else one line for each finished file; on standard error."""

    def __enter__(self) -> Progress:
        self._tasks: dict[str, Any] = {}
        if not sys.stderr.isatty():
            self._bars = None
            return self._line
        from rich.console import Console
        from rich.progress import BarColumn, DownloadColumn, Progress, TimeRemainingColumn, TransferSpeedColumn

        console = Console(stderr=True)
        columns: list[Any] = ["{task.description}", DownloadColumn()]
        if console.width >= WIDE:  # narrower, a bar would break names and figures
            columns[1:1] = [BarColumn()]
            columns += [TransferSpeedColumn(), TimeRemainingColumn()]
        self._bars = Progress(*columns, console=console)
        self._bars.start()
        return self._bar

    def __exit__(self, *_: object) -> None:
        if self._bars is not None:
            self._bars.stop()

    def _bar(self, name: str, done: int, total: int) -> None:
        assert self._bars is not None
        if name not in self._tasks:
            # Bytes of an earlier run must not count for the speed.
            self._tasks[name] = self._bars.add_task(name, total=total, completed=done)
        self._bars.update(self._tasks[name], completed=done)

    def _line(self, name: str, done: int, total: int) -> None:
        if done == total and name not in self._tasks:
            self._tasks[name] = True
            print(f"fetched  {name} · {total / 1e6:.1f} MB", file=sys.stderr, flush=True)
