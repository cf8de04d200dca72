"""Downloads the files a manifest lists from a model hub: only those, checked, resumable, and pinned by a lock.

The hub's model API states the commit behind a revision and, for every file, its size with the sha256 (large files) or
git's own sha1 (small ones). That answer is asked for once and kept as the lock; from then on every byte is held to it,
or to the manifest where that states more. Half a file lies under a name of its own until all of it has arrived and its
digest is right. The hub's client library neither goes on with a broken download in a later run nor compares digests.
"""

from __future__ import annotations

import contextlib
import hashlib
import http.client
import json
import os
import shutil
import ssl
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any, BinaryIO
from urllib.parse import quote

from expotion_cli import __version__, storage
from expotion_cli.errors import UsageError, WeightsError
from expotion_cli.weights import LOCK_FILE, Lock, Manifest, Pin, is_commit, read_lock, write_lock

HUB = "https://huggingface.co"
TIMEOUT_S = 30.0
ATTEMPTS = 4
"""A broken connection is taken up again this often, as long as each time nothing at all arrives."""
PAUSE_S = 2.0
PART_SUFFIX = ".part"

_BROKEN = (urllib.error.URLError, http.client.HTTPException, ssl.SSLError, ConnectionError, TimeoutError)
"""What goes wrong on the way; other errors of the operating system are ours, such as a full disk."""

Progress = Callable[[str, int, int], None]
"""Called with a file's name, its bytes that are here, and its size."""


def hub_address() -> str:
    """The hub asked: `HF_ENDPOINT` (a mirror) or the usual one.

    Raises:
        UsageError: `HF_ENDPOINT` is no web address.
    """
    address = (os.environ.get("HF_ENDPOINT") or HUB).rstrip("/")
    if not address.startswith(("https://", "http://")):
        raise UsageError(f"HF_ENDPOINT is {address!r}, which is no web address.", remedy=f"Unset it, or use {HUB}.")
    return address


def fetch(manifest: Manifest, *, on_progress: Progress | None = None) -> Lock:
    """Bring a manifest's files into its folder.

    Files that are there and right are left alone, so a second run only checks. Nothing that is fetched is executed.

    Args:
        manifest: of a model with a repository.
        on_progress: told how far each file is.

    Returns:
        What is in the folder now: the commit and each file's sha256.

    Raises:
        WeightsError: no network, the hub refuses, a file's content is not what was stated, or it can't be written.
        UsageError: `HF_ENDPOINT` is no web address.
    """
    from filelock import FileLock, Timeout

    assert manifest.repo and manifest.folder is not None
    folder, tell = manifest.folder, on_progress or (lambda *_: None)
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        with FileLock(folder.parent / f".{folder.name}.lock", timeout=0):
            return _fetch(manifest, folder, tell)
    except Timeout as error:
        raise WeightsError("Another fetch of this model is under way.", path=folder, remedy="Wait for it.") from error
    except OSError as error:  # of writing; reading from the hub has errors of its own
        raise WeightsError(
            f"The files can't be written ({error.strerror or error}).",
            path=folder,
            remedy="Make room there, or choose another place with EXPOTION_CACHE.",
        ) from error


def _fetch(manifest: Manifest, folder: Path, tell: Progress) -> Lock:
    names = [file.name for file in manifest.files]
    lock = read_lock(folder, manifest.repo, manifest.revision)
    if lock is None or not set(names) <= set(lock.pins):
        lock = _ask_hub(manifest, lock.revision if lock else manifest.revision or "main")
    _compare(manifest, lock)
    # Written before the first byte arrives: a fetch that is broken off and taken up later keeps to the same commit.
    write_lock(folder, lock)
    for name in sorted(names, key=lambda name: lock.pins[name].num_bytes):
        pin, path = lock.pins[name], folder / name
        if not _agrees(path, pin):
            _download(manifest, lock, name, path, tell)
        tell(name, pin.num_bytes, pin.num_bytes)
        if pin.sha256 is None:
            lock.pins[name] = Pin(pin.num_bytes, storage.digest_file(path))
            write_lock(folder, lock)
    for rest in folder.rglob(f".*{PART_SUFFIX}"):
        rest.unlink()  # of another commit
    return lock


def _ask_hub(manifest: Manifest, revision: str) -> Lock:
    """What the hub states about the listed files at a revision."""
    url = f"{hub_address()}/api/models/{manifest.repo}/revision/{quote(revision, safe='')}?blobs=true"
    assert manifest.folder is not None
    wanted = manifest.folder / manifest.files[0].name
    with _connection(manifest, wanted):
        with _open(url) as answer:
            content = answer.read()
    try:
        values = json.loads(content)
        stated = {entry["rfilename"]: entry for entry in values["siblings"]}
        lock = Lock(manifest.repo, str(values["sha"]))
        for file in manifest.files:
            if file.name not in stated:
                raise WeightsError(
                    f"The hub's {manifest.repo} has no such file at revision {revision}.",
                    path=file.path,
                    remedy="This version of the program doesn't fit the repository any more; install a newer one.",
                )
            lock.pins[file.name] = _pin(stated[file.name])
    except (ValueError, KeyError, TypeError) as error:
        raise WeightsError(
            f"{hub_address()} does not answer like a model hub ({error!r}).",
            path=wanted,
            remedy="Check HF_ENDPOINT and the network's proxy.",
        ) from error
    if not is_commit(lock.revision) or (is_commit(revision) and lock.revision != revision):
        raise WeightsError(
            f"The hub answers with commit {lock.revision!r} where {revision} was asked for.",
            path=wanted,
            remedy="Check HF_ENDPOINT.",
        )
    return lock


def _pin(entry: dict[str, Any]) -> Pin:
    if large := entry.get("lfs"):
        return Pin(int(large["size"]), str(large["sha256"]))
    return Pin(int(entry["size"]), None, str(entry["blobId"]))


def _compare(manifest: Manifest, lock: Lock) -> None:
    """Hold the hub's word to the manifest's; the stricter of both is what the files are checked against."""
    for file in manifest.files:
        pin = lock.pins[file.name]
        if file.num_bytes not in (None, pin.num_bytes) or (file.sha256 and pin.sha256 not in (None, file.sha256)):
            raise WeightsError(
                f"The hub's {manifest.repo} at {lock.revision[:7]} states another content for this file "
                f"({pin.num_bytes} bytes, sha256 {pin.sha256}) than the manifest ({file.sha256}).",
                path=file.path,
                remedy="Don't use what is there; tell the package's authors.",
            )
        if file.sha256 and pin.sha256 is None:
            lock.pins[file.name] = replace(pin, sha256=file.sha256)


def _agrees(path: Path, pin: Pin) -> bool:
    """Whether a file is there and holds what was stated."""
    if not path.is_file() or path.stat().st_size != pin.num_bytes:
        return False
    if pin.sha256 is not None:
        return storage.digest_file(path) == pin.sha256
    content = path.read_bytes()
    git = hashlib.sha1(b"blob %d\0" % len(content), usedforsecurity=False)
    git.update(content)
    return git.hexdigest() == pin.git_sha1


def _download(manifest: Manifest, lock: Lock, name: str, path: Path, tell: Progress) -> None:
    """Bring one file: into a part of its own, checked, then under its name."""
    pin = lock.pins[name]
    digest = pin.sha256 or pin.git_sha1 or ""
    path.parent.mkdir(parents=True, exist_ok=True)
    # The digest in the name keeps a part from being continued with the bytes of another commit.
    part = path.with_name(f".{path.name}.{digest[:12]}{PART_SUFFIX}")
    missing = pin.num_bytes - (part.stat().st_size if part.is_file() else 0)
    if missing > (free := shutil.disk_usage(path.parent).free):
        raise WeightsError(
            f"{missing / 1e9:.1f} GB are still to come, {free / 1e9:.1f} GB are free.",
            path=path,
            remedy="Make room there, or choose another place with EXPOTION_CACHE.",
        )
    url = f"{hub_address()}/{lock.repo}/resolve/{lock.revision}/{quote(name)}"
    with _connection(manifest, path):
        _receive(url, part, pin.num_bytes, lambda done: tell(name, done, pin.num_bytes))
    if not _agrees(part, pin):
        part.unlink()
        raise WeightsError(
            f"What arrived is not what the hub states ({'sha256' if pin.sha256 else 'git sha1'} {digest}); removed.",
            path=path,
            remedy=f"Run again: expotion fetch {manifest.name}. If it happens again, {hub_address()} serves a damaged "
            "copy.",
        )
    storage.put_in_place(part, path)


def _receive(url: str, part: Path, num_bytes: int, tell: Callable[[int], None]) -> None:
    """Append what is missing to the part; a broken connection is taken up again."""
    fruitless = 0
    with open(part, "ab") as file:
        if file.tell() > num_bytes:
            _empty(file)
        while (start := file.tell()) < num_bytes:
            try:
                for chunk in _chunks(url, start, file):
                    file.write(chunk[: num_bytes - file.tell()])
                    tell(file.tell())
                    if file.tell() == num_bytes:
                        break
                if file.tell() == start:
                    raise http.client.IncompleteRead(b"", num_bytes - start)
                fruitless = 0
            except urllib.error.HTTPError as error:
                if not _passes(error):
                    raise
                fruitless = _next(fruitless, error)
            except _BROKEN as error:
                fruitless = 0 if file.tell() > start else _next(fruitless, error)


def _passes(error: urllib.error.HTTPError) -> bool:
    """Whether the same question may be answered later."""
    return error.code >= 500 or error.code in (408, 429)


def _next(fruitless: int, error: Exception) -> int:
    if fruitless + 1 >= ATTEMPTS:
        raise error
    time.sleep(PAUSE_S * (fruitless + 1))
    return fruitless + 1


def _chunks(url: str, start: int, file: BinaryIO) -> Iterator[bytes]:
    """The content from `start` on; empties the file first where the server can only begin at 0."""
    with _open(url, {"Range": f"bytes={start}-"} if start else {}) as answer:
        if start and answer.status != 206:
            _empty(file)
        elif start and not answer.headers.get("Content-Range", "").startswith(f"bytes {start}-"):
            raise http.client.HTTPException("the server answers with another part of the file")
        while chunk := answer.read1(storage.CHUNK_BYTES):
            yield chunk


def _empty(file: BinaryIO) -> None:
    file.seek(0)
    file.truncate()


def _open(url: str, headers: dict[str, str] | None = None) -> Any:
    request = urllib.request.Request(url, headers={"User-Agent": f"expotion/{__version__}", **(headers or {})})
    return urllib.request.urlopen(request, timeout=TIMEOUT_S)


@contextlib.contextmanager
def _connection(manifest: Manifest, wanted: Path) -> Iterator[None]:
    """Turn what goes wrong between here and the hub into an error that names the file and the way out."""
    again = f"run: expotion fetch {manifest.name}"
    kept = "What has arrived is kept."
    try:
        yield
    except urllib.error.HTTPError as error:
        remedy = "Check HF_ENDPOINT and whether the hub still has it; a folder from elsewhere works too: --model FOLDER"
        if _passes(error):
            remedy = f"Later, {again}. {kept}"
        reason = f"{hub_address()} answers {error.code} ({error.reason}) for {manifest.repo}."
        raise WeightsError(reason, path=wanted, remedy=remedy) from error
    except _BROKEN as error:
        reason = getattr(error, "reason", None) or error
        raise WeightsError(
            f"This file can't be fetched: no connection to {hub_address()} ({reason}).",
            path=wanted,
            remedy=f"With network, {again}. {kept} Or copy the folder with its {LOCK_FILE} from a machine that has it.",
        ) from error
