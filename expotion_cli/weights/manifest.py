"""Where weights come from: the manifests in `models/`, and the locks that fetching adds.

A model's files either ship beside its manifest or are fetched once into the cache (`weights.fetch`), from a model hub
or from their own URLs. What the manifest of a fetched model leaves open (sizes, sha256, sometimes the revision) is
pinned at the first fetch by a lock file in the model's folder. Where both state a value, the manifest's counts.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from difflib import get_close_matches
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from expotion_cli import storage
from expotion_cli.assets import shipped_folder
from expotion_cli.errors import UnknownNameError, WeightsError

LOCK_FILE = "expotion.lock.json"
KINDS = ("music", "encoder", "tagger", "speech", "soundfont")
"""What composes, what sees, what evaluation listens with, what hears speech, what plays notes."""
_COMMIT = re.compile(r"[0-9a-f]{40}")
_NAME = re.compile(r"[\w-][\w.-]*")
_HUB_ID = re.compile(r"[\w.-]+/[\w.-]+")
_LOCAL_HOSTS = ("localhost", "127.0.0.1", "::1")


@dataclass(frozen=True)
class Pin:
    """What one file must contain; None where it is not known yet.

    Attributes:
        num_bytes: its size.
        sha256: hex digest of its content.
        git_sha1: git's blob digest, the only one the hub gives for small files.
        md5: hex digest, where its publisher gives one.
        sha256_prefix: first hex digits of its sha256, likewise.
        url: where it comes from; empty for files of a repository.
    """

    num_bytes: int | None
    sha256: str | None
    git_sha1: str | None = None
    md5: str | None = None
    sha256_prefix: str | None = None
    url: str = ""

    @property
    def digest(self) -> tuple[str, str] | None:
        """The strongest known digest as (kind, hex digits), or None."""
        kinds = ("sha256", "git_sha1", "md5", "sha256_prefix")
        return next(((kind.replace("_", " "), found) for kind in kinds if (found := getattr(self, kind))), None)


@dataclass(frozen=True)
class WeightFile:
    """One file of a manifest.

    Attributes:
        name: its path in the manifest.
        path: where it is or belongs.
        pin: what it must contain.
    """

    name: str
    path: Path
    pin: Pin

    @property
    def num_bytes(self) -> int | None:
        """Its size; None until a fetch has found it out."""
        return self.pin.num_bytes

    @property
    def sha256(self) -> str | None:
        """Hex digest of its content; None until a fetch has found it out."""
        return self.pin.sha256

    def state(self, *, thorough: bool = False) -> str:
        """One of "here", "missing", "damaged" and "unchecked" (no checksum is known yet).

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
    """A model, encoder, tagger or soundfont as `models/NAME.toml` describes it, completed from its lock.

    Attributes:
        name: the file's stem.
        kind: of `KINDS`.
        title: what it is, in one line.
        licence: its name, and what it forbids in brackets.
        source: where it was published.
        version: of the weights.
        folder: the model's folder, for music models and for what is fetched.
        adapter: folder of the adapter used by default, or None.
        files: all its files.
        streams: embedding streams that an encoder feeds.
        repo: "owner/name" on the hub; empty for models that ship or state an address for each file.
        revision: commit (or a reference to one, before the first fetch) in that repository.
        restricted: the licence forbids common uses; users are told at every run.
        about_bytes: total size of all files; approximate where not all sizes are known.
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
    streams: tuple[str, ...] = ()
    repo: str = ""
    revision: str = ""
    restricted: bool = False
    about_bytes: int = 0

    @property
    def ships(self) -> bool:
        """Whether its files come with the package; others are fetched."""
        return not self.repo and not any(file.pin.url for file in self.files)

    def missing_reason(self) -> str | None:
        """Why it can't be used now and what to do about it, or None. Checks sizes only; `require` reads the files."""
        error = self._first_problem(thorough=False)
        return str(error) if error is not None else None

    def require(self) -> dict[Path, str]:
        """Check that every file is there and whole.

        Returns:
            sha256 (hex) of each file's content, which was just read for it.

        Raises:
            WeightsError: one is missing or damaged, or nothing pins it yet.
        """
        for thorough in (False, True):  # missing files are reported before gigabytes are read
            if (error := self._first_problem(thorough=thorough)) is not None:
                raise error
        return {file.path: file.sha256 for file in self.files if file.sha256 is not None}

    def _first_problem(self, *, thorough: bool) -> WeightsError | None:
        for file in self.files:
            if (state := file.state(thorough=thorough)) == "here":
                continue
            if self.ships:
                reason, remedy = f"This file of {self.name} is {state}.", "Install the package again."
            else:
                said = {"missing": "has not been fetched yet", "unchecked": "was not checked by a fetch yet"}
                reason = f"This file of {self.name} {said.get(state, f'is {state}')}."
                size = f" (about {size_text(self.about_bytes)} in all)" if state == "missing" else ""
                remedy = f"Run: expotion fetch {self.name}{size}"
            return WeightsError(reason, path=file.path, remedy=remedy)
        return None


@dataclass(frozen=True)
class Lock:
    """The result of a fetch, kept as `expotion.lock.json`.

    Attributes:
        repo: "owner/name" on the hub; empty where each file has its own URL.
        revision: full commit in that repository.
        pins: by file name.
    """

    repo: str = ""
    revision: str = ""
    pins: dict[str, Pin] = field(default_factory=dict)


def write_lock(folder: Path, lock: Lock) -> None:
    """Write a lock into a model's folder. Files without a size or digest are left out."""
    files = {}
    for name, pin in lock.pins.items():
        if pin.num_bytes is None or not (pin.sha256 or pin.git_sha1):
            continue
        record = {"url": pin.url, "bytes": pin.num_bytes, "sha256": pin.sha256, "md5": pin.md5}
        record["git_sha1"] = None if pin.sha256 else pin.git_sha1
        files[name] = {key: value for key, value in record.items() if value}
    source = {"repo": lock.repo, "revision": lock.revision} if lock.repo else {}
    storage.write_json(folder / LOCK_FILE, {"format": 1, **source, "files": files})


def read_lock(folder: Path, repo: str = "", revision: str = "") -> Lock | None:
    """The lock in a model's folder; None if there is none, or if it belongs to another repository or commit.

    Args:
        folder: the model's.
        repo: "owner/name"; empty for files with their own URLs.
        revision: the manifest's; anything but a full commit matches every lock.
    """
    try:
        values = storage.parse_json(storage.read_text(folder / LOCK_FILE))
        pins = {
            str(name): Pin(
                int(pin["bytes"]), pin.get("sha256"), pin.get("git_sha1"), md5=pin.get("md5"), url=pin.get("url", "")
            )
            for name, pin in values["files"].items()
        }
        lock = Lock(values.get("repo", ""), values.get("revision", ""), pins)
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return None  # without a lock the files count as unchecked, and a fetch compares them with their source
    if lock.repo != repo:
        return None
    if repo and (not is_commit(lock.revision) or (is_commit(revision) and lock.revision != revision)):
        return None
    return lock


def is_commit(revision: str) -> bool:
    """Whether this is a full commit hash, not a branch or another reference."""
    return _COMMIT.fullmatch(revision) is not None


def size_text(num_bytes: int) -> str:
    """A size in MB or GB."""
    return f"{num_bytes / 1e6:.1f} MB" if num_bytes < 1e9 else f"{num_bytes / 1e9:.1f} GB"


def weights_folder() -> Path:
    """The cache folder with one folder for each fetched model."""
    return storage.cache_root() / "weights"


def read_manifests() -> dict[str, Manifest]:
    """All manifests by name, music models first, those that ship before those that are fetched.

    Raises:
        WeightsError: one can't be read.
    """
    found = [_read(path) for path in sorted(shipped_folder("models").glob("*.toml"))]
    found.sort(key=lambda m: (KINDS.index(m.kind), not m.ships, 0 if m.ships else m.about_bytes, m.name))
    return {manifest.name: manifest for manifest in found}


def find_manifest(name: str, kind: str | None = None) -> Manifest:
    """The manifest of this kind (or of any) with this name or hub id.

    Raises:
        UnknownNameError: there is none; names the nearest.
    """
    exact = shipped_folder("models") / f"{name}.toml"
    if _NAME.fullmatch(name) and exact.is_file():  # spares parsing all the others
        manifest = _read(exact)
        if kind in (None, manifest.kind):
            return manifest
    known = {n: m for n, m in read_manifests().items() if kind in (None, m.kind)}
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
    otherwise = "; or give the path of a model folder" if kind == "music" else ""
    raise UnknownNameError(
        f"There is no {f'{kind} ' if kind else ''}model called {name!r}.{hint}",
        remedy=f"Known: {', '.join(known) or 'none'}{otherwise}.",
    )


def licence_notice(name: str) -> str:
    """A notice for users of a music model with a restricted licence, by name or hub id; else empty."""
    for manifest in read_manifests().values():
        if manifest.restricted and (name == manifest.name or (name == manifest.repo and not Path(name).is_dir())):
            return f"{manifest.name} is under {manifest.licence}"
    return ""


def _read(path: Path) -> Manifest:
    root = path.parent
    try:
        values: Mapping[str, Any] = storage.parse_toml(storage.read_text(path))
        repo, revision = values.get("repo", ""), values.get("revision", "")
        stated = {each["path"]: _parse_pin(each, ships=not repo) for each in values.get("files", ())}
        folder = root / values["folder"] if "folder" in values else None
        pins: Mapping[str, Pin] = {}
        if repo or any(pin.url for pin in stated.values()):
            root = folder = weights_folder() / path.stem
            if lock := read_lock(folder, repo, revision):
                revision, pins = lock.revision, lock.pins
        files = tuple(WeightFile(name, root / name, _merge(pin, pins.get(name))) for name, pin in stated.items())
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
            streams=tuple(values.get("streams", ())),
            repo=repo,
            revision=revision,
            restricted=bool(values.get("restricted", False)),
            about_bytes=total if all(file.num_bytes for file in files) else int(values["about_bytes"]),
        )
    except (OSError, KeyError, TypeError, ValueError) as error:
        raise WeightsError(f"The manifest can't be read ({error!r}).", path=path) from error


def _parse_pin(values: Mapping[str, Any], *, ships: bool) -> Pin:
    """The pin of one file, from its table in the manifest."""
    url, digests = values.get("url", ""), {key: values.get(key) for key in ("sha256", "md5", "sha256_prefix")}
    if url and urlsplit(url).scheme != "https" and urlsplit(url).hostname not in _LOCAL_HOSTS:
        raise ValueError(f"{url} is not an https address")
    for key, digest in digests.items():
        if digest is not None and not re.fullmatch("[0-9a-f]+", digest):
            raise ValueError(f"{key} {digest!r} is not a lower-case hexadecimal number")
    if ships and not url:  # without a fetch there is nothing else to hold the file to
        return Pin(int(values["bytes"]), values["sha256"])
    return Pin(
        values.get("bytes"), digests["sha256"], md5=digests["md5"], sha256_prefix=digests["sha256_prefix"], url=url
    )


def _merge(stated: Pin, locked: Pin | None) -> Pin:
    """The manifest's pin, completed from the lock."""
    if locked is None or stated.url != locked.url or (stated.md5 and stated.md5 != locked.md5):
        return stated
    if stated.sha256_prefix and not (locked.sha256 or "").startswith(stated.sha256_prefix):
        return stated
    return replace(stated, num_bytes=stated.num_bytes or locked.num_bytes, sha256=stated.sha256 or locked.sha256)
