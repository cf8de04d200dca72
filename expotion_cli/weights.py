"""Where weights come from: manifests in `models/`, checked against the size and sha256 they state."""

from __future__ import annotations

import tomllib
from collections.abc import Mapping
from dataclasses import dataclass
from difflib import get_close_matches
from pathlib import Path
from typing import Any

from expotion_cli.assets import shipped_folder
from expotion_cli.errors import UnknownNameError, WeightsError
from expotion_cli.storage import digest_file


@dataclass(frozen=True)
class WeightFile:
    """One file of a manifest.

    Attributes:
        path: where it is, or should be.
        num_bytes: its size.
        sha256: hex digest of its content.
    """

    path: Path
    num_bytes: int
    sha256: str

    def state(self, *, thorough: bool = False) -> str:
        """ "here", "missing" or "damaged"; the content is read only if `thorough`."""
        if not self.path.is_file():
            return "missing"
        if self.path.stat().st_size != self.num_bytes or (thorough and digest_file(self.path) != self.sha256):
            return "damaged"
        return "here"


@dataclass(frozen=True)
class Manifest:
    """What `models/NAME.toml` says.

    Attributes:
        name: the file's stem.
        kind: "music" or "encoder".
        title, licence, source, version: for people.
        folder: the model's folder, for music models.
        adapter: folder of the adapter used by default, or None.
        files: all its files.
    """

    name: str
    kind: str
    title: str
    licence: str
    source: str
    version: str
    folder: Path | None
    adapter: Path | None
    files: tuple[WeightFile, ...]

    def require(self) -> None:
        """Check that every file is there and whole.

        Raises:
            WeightsError: one is missing or damaged.
        """
        for file in self.files:
            if (state := file.state(thorough=True)) != "here":
                raise WeightsError(
                    f"This file of {self.name} is {state}.", path=file.path, remedy="Install the package again."
                )


def read_manifests() -> dict[str, Manifest]:
    """All manifests by name, music models first.

    Raises:
        WeightsError: one can't be read.
    """
    found = [_read(path) for path in sorted(shipped_folder("models").glob("*.toml"))]
    return {manifest.name: manifest for manifest in sorted(found, key=lambda m: (m.kind == "encoder", m.name))}


def find_manifest(name: str, kind: str) -> Manifest:
    """The manifest of this name and kind.

    Raises:
        UnknownNameError: there is none; names the nearest.
    """
    known = {n: m for n, m in read_manifests().items() if m.kind == kind}
    if name in known:
        return known[name]
    near = get_close_matches(name, known, n=1)
    hint = f" Did you mean {near[0]}?" if near else ""
    raise UnknownNameError(
        f"There is no {kind} model called {name!r}.{hint}",
        remedy=f"Known: {', '.join(known) or 'none'}; or give the path of a model folder.",
    )


def _read(path: Path) -> Manifest:
    root = path.parent
    try:
        values: Mapping[str, Any] = tomllib.loads(path.read_text(encoding="utf-8"))
        files = tuple(WeightFile(root / f["path"], int(f["bytes"]), f["sha256"]) for f in values.get("files", ()))
        return Manifest(
            name=path.stem,
            kind=values["kind"],
            title=values["title"],
            licence=values["licence"],
            source=values.get("source", ""),
            version=str(values.get("version", "")),
            folder=root / values["folder"] if "folder" in values else None,
            adapter=root / values["adapter"] if "adapter" in values else None,
            files=files,
        )
    except (OSError, tomllib.TOMLDecodeError, KeyError, TypeError, ValueError) as error:
        raise WeightsError(f"The manifest can't be read ({error!r}).", path=path) from error
