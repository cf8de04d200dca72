"""Training logs: CSV files, and TensorBoard where it is installed."""

from __future__ import annotations

import contextlib
import csv
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

from expotion_cli import storage
from expotion_cli.errors import writing
from expotion_cli.training.run_folder import RESUME_REMEDY

TRAIN_LOG, HELD_OUT_LOG = "log.csv", "held_out.csv"

Report = Callable[[str, dict[str, float]], None]
"""Gets ("train" or "held_out", figures by name, with "step") whenever a row is logged."""


def append_row(path: Path, row: Mapping[str, float]) -> None:
    """Append a row to a CSV log, with a header if the file is new. Values are rounded to five decimals.

    Raises:
        OutputError: it can't be written.
    """
    is_new = not path.is_file()
    with writing(path, remedy=RESUME_REMEDY), open(path, "a", newline="") as file:
        writer = csv.DictWriter(file, row)
        if is_new:
            writer.writeheader()
        writer.writerow({key: round(float(value), 5) for key, value in row.items()})


def read_log(path: Path) -> list[dict[str, float]]:
    """The rows of a CSV log."""
    with open(path, newline="") as file:
        return [{key: float(value) for key, value in row.items()} for row in csv.DictReader(file)]


def truncate_log(path: Path, step: int) -> None:
    """Drop the rows of steps after `step`, which will be trained again, and a last row cut off in mid-write."""
    if path.is_file():
        header, *rows = path.read_bytes().splitlines(keepends=True)
        kept = [row for row in rows if row.endswith(b"\n") and float(row.split(b",")[0]) <= step]
        storage.write_bytes(path, b"".join([header, *kept]))


@contextlib.contextmanager
def tensorboard(out: Path | None) -> Iterator[Report | None]:
    """A writer of TensorBoard logs to `out/tensorboard`; None without `out` or without the package."""
    if out is not None:
        try:
            from torch.utils.tensorboard import SummaryWriter
        except ImportError:
            out = None
    if out is None:
        yield None
        return
    writer = SummaryWriter(str(out / "tensorboard"))

    def write(kind: str, row: dict[str, float]) -> None:
        for name, value in row.items():
            if name not in ("step", "elapsed_s"):
                writer.add_scalar(f"{kind}/{name}", value, int(row["step"]))

    try:
        yield write
    finally:
        writer.close()
