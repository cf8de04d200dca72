"""The folder of a training run: whose it is, and how its files and logs are written."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

from expotion_cli import storage
from expotion_cli.errors import UsageError, writing

RUN_FILE = "run.json"
_WORDS = {"data": "its data", "model": "its model", "start_from": "--start-from"}


def claim(out: Path, decided: Mapping[str, Any], *, is_writer: bool) -> None:
    """Note what decides a run in its folder, or make sure that the folder's run is the same.

    Args:
        out: the folder; made if it is not there.
        decided: plain values.
        is_writer: whether this process writes.

    Raises:
        UsageError: the folder holds another run.
        OutputError: it can't be written.
    """
    path = out / RUN_FILE
    if not path.is_file():
        if is_writer:
            store(path, lambda: storage.write_json(path, decided))
        return
    found = storage.read_json(path, remedy="Choose another folder.")
    wanted = json.loads(json.dumps(decided))
    if found != wanted:
        raise UsageError(
            f"the folder holds another run: {_difference(found, wanted)} differs.",
            path=out,
            remedy="Choose another one, or give what it began with to go on with it.",
        )


def store(path: Path, write: Callable[[], None]) -> None:
    """Write something, with an error that a user can act on.

    Raises:
        OutputError: it can't be written.
    """
    with writing(path, remedy="Make room and run the same command again: nothing is trained twice."):
        write()


@contextlib.contextmanager
def tensorboard(out: Path | None) -> Iterator[Callable[[str, dict[str, float]], None] | None]:
    """A writer of TensorBoard's logs below `out`, where that is installed; else None."""
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


def _difference(found: Any, wanted: Mapping[str, Any]) -> str:
    for key, value in wanted.items():
        other = found.get(key) if isinstance(found, dict) else None
        if other == value:
            continue
        if key == "recipe" and isinstance(other, dict):
            for table, entries in value.items():
                for name, entry in entries.items():
                    if entry != other.get(table, {}).get(name):
                        return f"its recipe's {table}.{name}"
        return _WORDS.get(key, key)
    return "something"
