"""Where weights come from: manifests in `models/`, checked against the size and sha256 they state.

The files of a model either ship beside its manifest or are fetched from a model hub once (`fetching`) and lie under the
cache then. What a manifest of a fetched model leaves open (sizes, sha256, sometimes the revision) is pinned at the
first fetch by a lock file in the model's folder; where both speak, the manifest rules.
"""

from __future__ import annotations

import json
import re
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, field
from difflib import get_close_matches
from pathlib import Path
from typing import Any

from expotion_cli import storage
from expotion_cli.assets import shipped_folder
from expotion_cli.errors import UnknownNameError, WeightsError

LOCK_FILE = "expotion.lock.json"
_COMMIT = re.compile(r"[0-9a-f]{40}")
_HUB_ID = re.compile(r"[\w.-]+/[\w.-]+")


@dataclass(frozen=True)
class WeightFile:
    """One file of a manifest.

    Attributes:
        name: its path as the manifest states it.
        path: where it is, or should be.
        num_bytes: its size; None while only the hub knows.
        sha256: hex digest of its content; None while only the hub knows.
    """

    name: str
    path: Path
    num_bytes: int | None
    sha256: str | None

    def state(self, *, thorough: bool = False) -> str:
        """ "here", "missing", "damaged" or "unchecked" (nothing says yet what it must hold).

        The content is read only if `thorough`.
        """
        if not self.path.is_file():
            return "missing"
        if self.num_bytes is not None and self.path.stat().st_size != self.num_bytes:
            return "damaged"
        if self.sha256 is None:
            return "unchecked"
        return "damaged" if thorough and storage.digest_file(self.path) != self.sha256 else "here"


@dataclass(frozen=True)
class Manifest:
    """What `models/NAME.toml` says, and for fetched models what their lock adds.

    Attributes:
        name: the file's stem.
        kind: "music" or "encoder".
        title, licence, source, version: for people.
        folder: the model's folder, for music models.
        adapter: folder of the adapter used by default, or None.
        files: all its files.
        repo: "owner/name" on the hub; empty for models that ship.
        revision: commit (or a reference to one, before the first fetch) in that repository.
        restricted: the licence forbids uses that people may have in mind, so they are told.
        about_bytes: size of all files together; rounded where not all are known.
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
    repo: str = ""
    revision: str = ""
    restricted: bool = False
    about_bytes: int = 0

    def require(self) -> dict[Path, str]:
        """Check that every file is there and whole.

        Returns:
            sha256 (hex) of each file's content, which was just read for it.

        Raises:
            WeightsError: one is missing or damaged, or nothing pins it yet.
        """
        for thorough in (False, True):  # whatever lacks is said before gigabytes are read
            for file in self.files:
                if (state := file.state(thorough=thorough)) == "here":
                    continue
                if not self.repo:
                    reason, remedy = f"This file of {self.name} is {state}.", "Install the package again."
                else:
                    said = {"missing": "has not been fetched yet", "unchecked": "was not checked by a fetch yet"}
                    reason = f"This file of {self.name} {said.get(state, f'is {state}')}."
                    size = f" (about {self.about_bytes / 1e9:.1f} GB in all)" if state == "missing" else ""
                    remedy = f"Run: expotion fetch {self.name}{size}"
                raise WeightsError(reason, path=file.path, remedy=remedy)
        return {file.path: file.sha256 for file in self.files if file.sha256 is not None}


@dataclass(frozen=True)
class Pin:
    """What one fetched file must hold.

    Attributes:
        num_bytes: its size.
        sha256: hex digest of its content; None for a small file before it was fetched.
        git_sha1: hex digest git gives to its content, which is all the hub states of small files.
    """

    num_bytes: int
    sha256: str | None
    git_sha1: str | None = None


@dataclass(frozen=True)
class Lock:
    """What a fetch found on the hub.

    Attributes:
        repo: "owner/name".
        revision: full commit.
        pins: by file name.
    """

    repo: str
    revision: str
    pins: dict[str, Pin] = field(default_factory=dict)


def write_lock(folder: Path, lock: Lock) -> None:
    """Keep a lock in a model's folder."""
    files = {
        name: {"bytes": pin.num_bytes, **({"sha256": pin.sha256} if pin.sha256 else {"git_sha1": pin.git_sha1})}
        for name, pin in lock.pins.items()
    }
    storage.write_json(folder / LOCK_FILE, {"format": 1, "repo": lock.repo, "revision": lock.revision, "files": files})


def read_lock(folder: Path, repo: str, revision: str) -> Lock | None:
    """The lock of a model's folder; None where there is none, or one of another repository or commit.

    Args:
        folder: the model's.
        repo: "owner/name".
        revision: what the manifest states; a reference that is no full commit agrees with any.
    """
    try:
        values = json.loads((folder / LOCK_FILE).read_text(encoding="utf-8"))
        pins = {
            str(name): Pin(int(pin["bytes"]), pin.get("sha256"), pin.get("git_sha1"))
            for name, pin in values["files"].items()
        }
        lock = Lock(values["repo"], values["revision"], pins)
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return None  # without a lock the files count as unchecked, and a fetch compares them with the hub
    if lock.repo != repo or not is_commit(lock.revision) or (is_commit(revision) and lock.revision != revision):
        return None
    return lock


def is_commit(revision: str) -> bool:
    """Whether this names one commit for ever, and is no branch or other reference."""
    return _COMMIT.fullmatch(revision) is not None


def weights_folder() -> Path:
    """Where fetched models lie, one folder each."""
    return storage.cache_root() / "weights"


def read_manifests() -> dict[str, Manifest]:
    """All manifests by name, music models first, those that ship before those that are fetched.

    Raises:
        WeightsError: one can't be read.
    """
    found = [_read(path) for path in sorted(shipped_folder("models").glob("*.toml"))]
    found.sort(key=lambda m: (m.kind == "encoder", bool(m.repo), m.about_bytes if m.repo else 0, m.name))
    return {manifest.name: manifest for manifest in found}


def find_manifest(name: str, kind: str) -> Manifest:
    """The manifest of this kind with this name or hub id.

    Raises:
        UnknownNameError: there is none; names the nearest.
    """
    known = {n: m for n, m in read_manifests().items() if m.kind == kind}
    by_repo = {manifest.repo: manifest for manifest in known.values() if manifest.repo}
    if found := known.get(name) or by_repo.get(name):
        return found
    near = get_close_matches(name, [*known, *by_repo], n=1)
    hint = f" Did you mean {near[0]}?" if near else ""
    if _HUB_ID.fullmatch(name):
        raise UnknownNameError(
            f"There is neither a folder {name!r} nor a manifest for a hub repository of that name.{hint}",
            remedy="Download it and give the folder's path, for example after: "
            f"hf download {name} --local-dir {name.partition('/')[2]}",
        )
    raise UnknownNameError(
        f"There is no {kind} model called {name!r}.{hint}",
        remedy=f"Known: {', '.join(known) or 'none'}; or give the path of a model folder.",
    )


def licence_notice(name: str) -> str:
    """What to tell whoever uses this music model, by name or hub id; empty for free licences and for folders."""
    for manifest in read_manifests().values():
        if manifest.restricted and (name == manifest.name or (name == manifest.repo and not Path(name).is_dir())):
            return f"{manifest.name} is under {manifest.licence}"
    return ""


def _read(path: Path) -> Manifest:
    root = path.parent
    try:
        values: Mapping[str, Any] = tomllib.loads(path.read_text(encoding="utf-8"))
        repo, revision = values.get("repo", ""), values.get("revision", "")
        folder = root / values["folder"] if "folder" in values else None
        pins: Mapping[str, Pin] = {}
        if repo:
            root = folder = weights_folder() / path.stem
            if lock := read_lock(folder, repo, revision):
                revision, pins = lock.revision, lock.pins
        files = tuple(_read_file(stated, root, repo, pins) for stated in values.get("files", ()))
        total = sum(file.num_bytes or 0 for file in files)
        return Manifest(
            name=path.stem,
            kind=values["kind"],
            title=values["title"],
            licence=values["licence"],
            source=values.get("source", ""),
            version=str(values.get("version", "")),
            folder=folder,
            adapter=root / values["adapter"] if "adapter" in values else None,
            files=files,
            repo=repo,
            revision=revision,
            restricted=bool(values.get("restricted", False)),
            about_bytes=total if all(file.num_bytes for file in files) else int(values["about_bytes"]),
        )
    except (OSError, tomllib.TOMLDecodeError, KeyError, TypeError, ValueError) as error:
        raise WeightsError(f"The manifest can't be read ({error!r}).", path=path) from error


def _read_file(stated: Mapping[str, Any], root: Path, repo: str, pins: Mapping[str, Pin]) -> WeightFile:
    name = stated["path"]
    if not repo:
        return WeightFile(name, root / name, int(stated["bytes"]), stated["sha256"])
    pin = pins.get(name)
    return WeightFile(
        name,
        root / name,
        stated.get("bytes") or (pin and pin.num_bytes),
        stated.get("sha256") or (pin and pin.sha256),
    )
