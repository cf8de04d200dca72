"""The settings inside audiocraft's files: OmegaConf's YAML or objects, looked up by dotted keys."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NoReturn

import yaml

from expotion_cli.errors import WeightsError

_REFERENCE = re.compile(r"\$\{([\w.]+)\}")
_MOST_HOPS = 8
_REQUIRED, _ABSENT = object(), object()


class AudiocraftSettings:
    """Settings by dotted key; references like `${channels}` are resolved.

    Args:
        values: YAML text, or the same as dicts and lists.
        path: the file, for errors.

    Raises:
        WeightsError: the text can't be read.
    """

    def __init__(self, values: Any, path: Path):
        if isinstance(values, str):
            try:
                values = yaml.safe_load(values)
            except yaml.YAMLError as error:
                said = str(error).splitlines()[0]
                raise WeightsError(f"The settings in 'xp.cfg' can't be read ({said}).", path=path) from error
        if not isinstance(values, dict):
            raise WeightsError("'xp.cfg' holds no settings.", path=path)
        self.values, self.path = values, path

    def get(self, key: str, default: Any = _REQUIRED) -> Any:
        """The value of a dotted key.

        Raises:
            WeightsError: the key is missing and there is no default.
        """
        found = self._find(key, _MOST_HOPS)
        if found is _ABSENT and default is _REQUIRED:
            raise WeightsError(f"The settings in 'xp.cfg' lack {key}.", path=self.path)
        return default if found is _ABSENT else found

    def whole(self, key: str, default: Any = _REQUIRED) -> int:
        """A whole number, 0 or more.

        Raises:
            WeightsError: the key is missing, or its value is something else.
        """
        value = self.get(key, default)
        if isinstance(value, bool) or not isinstance(value, int) or value < 0:
            self.refuse(key, "a whole number")
        return value

    def require(self, wanted: Mapping[str, tuple[Any, Any]]) -> None:
        """Check keys against (the one value that will do, audiocraft's own default).

        Raises:
            WeightsError: names the first that differs.
        """
        for key, (value, default) in wanted.items():
            found = self.get(key, default)
            if found != value and not (not found and value in ([], {})):
                self.refuse(key, repr(value))

    def refuse(self, key: str, expected: str) -> NoReturn:
        """Raise the error that names a key, its value and what was expected."""
        raise WeightsError(
            f"The setting {key} is {self.get(key, None)!r}; this decoder does {expected}.",
            path=self.path,
            remedy="Use a checkpoint of MusicGen's text-to-music models.",
        )

    def _find(self, key: str, hops: int) -> Any:
        value: Any = self.values
        for part in key.split("."):
            value = self._follow(value, hops)
            if not isinstance(value, dict) or part not in value:
                return _ABSENT
            value = value[part]
        value = self._follow(value, hops)
        return [self._follow(item, hops) for item in value] if isinstance(value, list) else value

    def _follow(self, value: Any, hops: int) -> Any:
        if not isinstance(value, str) or (match := _REFERENCE.fullmatch(value)) is None:
            return value
        if hops == 0:
            raise WeightsError(f"The settings in 'xp.cfg' refer to each other in a circle ({value}).", path=self.path)
        found = self._find(match.group(1), hops - 1)
        return None if found is _ABSENT else found
