"""When the parts of one scoring command begin and how long they take, noted from inside its process.

A process that calls `install` writes a JSON file when it ends: for each part its beginning, counted from the moment the
parent started the process, and its duration, both in seconds. The functions are wrapped when their modules are
imported, so nothing is imported earlier than without it.
"""

from __future__ import annotations

import atexit
import functools
import importlib.abc
import importlib.machinery
import json
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from types import ModuleType
from typing import Any

FUNCTIONS = {
    "expotion_cli.scoring.plan": ("plan", "plan and probe"),
    "expotion_cli.music.load": ("load_model", "load the model"),
    "expotion_cli.vision.streams": ("encode_clip", "see"),
}
"""Module -> (function, what its part is called)."""
IMPORTS = {
    "expotion_cli.cli.score": "import the command",
    "expotion_cli.scoring.batch": "import scoring",
    "expotion_cli.music.load": "import torch and the model's code",
}
"""Modules whose import, with all they import, counts as a part."""


def install(destination: str, spawned_s: float) -> None:
    """Note the parts of this process, and write them when it ends.

    Args:
        destination: the JSON file.
        spawned_s: `time.time()` of the parent when it started this process.
    """
    parts: list[dict[str, Any]] = [_part("start Python", spawned_s, spawned_s)]
    sys.meta_path.insert(0, _Finder(parts, spawned_s))
    atexit.register(lambda: Path(destination).write_text(json.dumps(parts)))


def _part(name: str, begun_s: float, spawned_s: float) -> dict[str, Any]:
    return {"part": name, "at_s": round(begun_s - spawned_s, 3), "took_s": round(time.time() - begun_s, 3)}


class _Finder(importlib.abc.MetaPathFinder):
    def __init__(self, parts: list[dict[str, Any]], spawned_s: float):
        self._parts, self._spawned_s = parts, spawned_s

    def find_spec(
        self, name: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> importlib.machinery.ModuleSpec | None:
        if name not in FUNCTIONS and name not in IMPORTS:
            return None
        spec = importlib.machinery.PathFinder.find_spec(name, path, target)
        if spec is not None and spec.loader is not None:
            execute = spec.loader.exec_module
            spec.loader.exec_module = lambda module: self._execute(execute, module)  # type: ignore[method-assign]
        return spec

    def _execute(self, execute: Any, module: ModuleType) -> None:
        begun_s = time.time()
        execute(module)
        if module.__name__ in IMPORTS:
            self._parts.append(_part(IMPORTS[module.__name__], begun_s, self._spawned_s))
        if module.__name__ in FUNCTIONS:
            function, part = FUNCTIONS[module.__name__]
            setattr(module, function, self._timed(getattr(module, function), part))

    def _timed(self, function: Any, part: str) -> Any:
        @functools.wraps(function)
        def timed(*args: Any, **options: Any) -> Any:
            begun_s = time.time()
            try:
                return function(*args, **options)
            finally:
                self._parts.append(_part(part, begun_s, self._spawned_s))

        return timed
