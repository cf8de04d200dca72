"""The folder of a training run belongs to one run: that with the same recipe, data and model."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from expotion_cli import storage
from expotion_cli.errors import UsageError, writing

RUN_FILE = "run.json"
RESUME_REMEDY = "Make room and run the same command again: it resumes from the last checkpoint."
_INPUT_NAMES = {"data": "its data", "model": "its model", "start_from": "--start-from", "minutes": "--minutes"}


def claim(out: Path, inputs: Mapping[str, Any], *, is_writer: bool) -> None:
    """Record what determines a run in its folder, or check that the folder's run is the same one.

    Args:
        out: the folder; created if absent.
        inputs: all that determines the run, as plain JSON values.
        is_writer: whether this process writes.

    Raises:
        UsageError: the folder belongs to another run.
        OutputError: it can't be written.
    """
    path = out / RUN_FILE
    if not path.is_file():
        if is_writer:
            with writing(path, remedy=RESUME_REMEDY):
                storage.write_json(path, inputs)
        return
    found = storage.read_json(path, remedy="Choose another folder.")
    expected = json.loads(json.dumps(inputs))
    if found != expected:
        raise UsageError(
            f"the folder holds another run: {_difference(found, expected)} differs.",
            path=out,
            remedy="Choose another folder, or repeat that run's settings to resume it.",
        )


def _difference(found: Any, expected: Mapping[str, Any]) -> str:
    for key, value in expected.items():
        other = found.get(key) if isinstance(found, dict) else None
        if other == value:
            continue
        if key == "recipe" and isinstance(other, dict):
            for table, entries in value.items():
                for name, entry in entries.items():
                    if entry != other.get(table, {}).get(name):
                        return f"its recipe's {table}.{name}"
        return _INPUT_NAMES.get(key, key)
    return "something"
