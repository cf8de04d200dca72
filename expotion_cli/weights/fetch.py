"""Downloads the files a manifest lists: only those, checked, resumable, and pinned by a lock.

They come from a model hub or from addresses of their own. The hub's model API states the commit behind a revision and,
for every file, its size with the sha256 (large files) or git's own sha1 (small ones). That answer is asked for once and
kept as the lock; from then on every byte is held to it, or to the manifest where that states more. Of a file with an
address of its own the manifest states what its publisher does (a sha256, the beginning of one, an md5), and the lock
keeps the sha256 of what came first. Half a file lies under a name of its own until all of it has arrived and its digest
is right. The hub's client library neither goes on with a broken download in a later run nor compares digests.
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
from urllib.parse import quote, urlsplit

from expotion_cli import __version__, storage
from expotion_cli.errors import UsageError, WeightsError
from expotion_cli.weights.manifest import (
    LOCK_FILE,
    Lock,
    Manifest,
    Pin,
    WeightFile,
    is_commit,
    read_lock,
    size_text,
    write_lock,
)

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
    return _mirror("HF_ENDPOINT", f"Unset it, or use {HUB}.") or HUB


def file_address(manifest: Manifest, file: WeightFile) -> str:
    """Where a file with an address of its own comes from: there, or `MODEL/FILE` under `EXPOTION_MIRROR`.

    Raises:
        UsageError: `EXPOTION_MIRROR` is no web address.
    """
    mirror = _mirror("EXPOTION_MIRROR", "Unset it, or name the place where a copy of the weights folder is served.")
    return f"{mirror}/{manifest.name}/{quote(file.name)}" if mirror else file.pin.url


def _mirror(variable: str, remedy: str) -> str:
    address = os.environ.get(variable, "").rstrip("/")
    if address and not address.startswith(("https://", "http://")):
        raise UsageError(f"{variable} is {address!r}, which is no web address.", remedy=remedy)
    return address


def fetch(manifest: Manifest, *, on_progress: Progress | None = None) -> Lock:
    """Bring a manifest's files into its folder.

    Files that are there and right are left alone, so a second run only checks. Nothing that is fetched is executed.

    Args:
        manifest: of a model that doesn't ship.
        on_progress: told how far each file is.

    Returns:
        What is in the folder now: each file's sha256, and the commit if there is a repository.

    Raises:
        WeightsError: no network, the server refuses, a file's content is not what was stated, or it can't be written.
        UsageError: `HF_ENDPOINT` or `EXPOTION_MIRROR` is no web address.
    """
    from filelock import FileLock, Timeout

    assert not manifest.ships and manifest.folder is not None
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
    lock = _hub_lock(manifest, folder) if manifest.repo else Lock()
    pins = {file.name: lock.pins.get(file.name, file.pin) for file in manifest.files}
    for file in sorted(manifest.files, key=lambda file: pins[file.name].num_bytes or 0):
        pin = pins[file.name]
        found = _read(file.path, pin) if pin.digest else None
        if found is None:
            address = f"{hub_address()}/{lock.repo}/resolve/{lock.revision}/{quote(file.name)}"
            part_key = pin.digest[1] if pin.digest else ""
            if not manifest.repo:
                address = file_address(manifest, file)
                pin, tag = _ask_address(address, manifest, file)
                part_key = part_key or storage.digest_of([file.pin.url, pin.num_bytes, tag])
                # Put there by hand, and its publisher states no digest: its size is all there is to compare.
                found = None if pin.digest else _read(file.path, pin)
            found = found or _download(manifest, address, file, pin, part_key, tell)
        lock.pins[file.name] = found
        assert found.num_bytes is not None
        tell(file.name, found.num_bytes, found.num_bytes)
        write_lock(folder, lock)
    for rest in folder.rglob(f".*{PART_SUFFIX}"):
        rest.unlink()  # of another commit
    return lock


def _hub_lock(manifest: Manifest, folder: Path) -> Lock:
    """What the files of a repository must hold, by an earlier fetch or by the hub's word, held to the manifest."""
    names = {file.name for file in manifest.files}
    lock = read_lock(folder, manifest.repo, manifest.revision)
    if lock is None or not names <= set(lock.pins):
        lock = _ask_hub(manifest, lock.revision if lock else manifest.revision or "main")
    _compare(manifest, lock)
    # Written before the first byte arrives: a fetch that is broken off and taken up later keeps to the same commit.
    write_lock(folder, lock)
    return lock


def _ask_hub(manifest: Manifest, revision: str) -> Lock:
    """What the hub states about the listed files at a revision."""
    url = f"{hub_address()}/api/models/{manifest.repo}/revision/{quote(revision, safe='')}?blobs=true"
    assert manifest.folder is not None
    wanted = manifest.folder / manifest.files[0].name
    with _connection(manifest, wanted, hub_address()), _open(url) as answer:
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


def _ask_address(address: str, manifest: Manifest, file: WeightFile) -> tuple[Pin, str]:
    """What a file at an address of its own must hold, with the size the server states, and the server's tag for it."""
    # Asked as a download is: addresses signed for one kind of question answer no other.
    with _connection(manifest, file.path, address), _open(address, {"Range": "bytes=0-0"}) as answer:
        ranged = answer.headers.get("Content-Range", "").rpartition("/")[2]
        size = ranged if answer.status == 206 else answer.headers.get("Content-Length", "")
        tag = answer.headers.get("ETag", "")
    if not size.isdecimal():
        raise WeightsError(
            f"{_host(address)} does not say how long this file is.",
            path=file.path,
            remedy=f"Download {address} by other means, put it there, and run: expotion fetch {manifest.name}",
        )
    if file.num_bytes not in (None, int(size)):
        raise WeightsError(
            f"{_host(address)} has {size} bytes for this file, where {file.num_bytes} are stated.",
            path=file.path,
            remedy="Don't use what is there; tell the package's authors.",
        )
    return replace(file.pin, num_bytes=int(size)), tag


def _read(path: Path, pin: Pin) -> Pin | None:
    """The pin with the file's own size and sha256 if it is there and holds what was stated; else None."""
    if not path.is_file() or pin.num_bytes not in (None, num_bytes := path.stat().st_size):
        return None
    sha256, md5 = hashlib.sha256(), hashlib.md5(usedforsecurity=False)
    git_sha1 = hashlib.sha1(b"blob %d\0" % num_bytes, usedforsecurity=False)
    stated = ((pin.sha256, sha256), (pin.sha256_prefix, sha256), (pin.md5, md5), (pin.git_sha1, git_sha1))
    needed = {sha256} | {hasher for digest, hasher in stated if digest}
    with open(path, "rb") as file:
        while chunk := file.read(storage.CHUNK_BYTES):
            for hasher in needed:
                hasher.update(chunk)
    if not all(hasher.hexdigest().startswith(digest) for digest, hasher in stated if digest):
        return None
    return replace(pin, num_bytes=num_bytes, sha256=sha256.hexdigest())


def _download(manifest: Manifest, address: str, file: WeightFile, pin: Pin, part_key: str, tell: Progress) -> Pin:
    """Bring one file: into a part of its own, checked, then under its name. Returns the pin with its sha256."""
    path, num_bytes = file.path, pin.num_bytes
    assert num_bytes is not None
    path.parent.mkdir(parents=True, exist_ok=True)
    # The key in the name keeps a part from being continued with the bytes of other content.
    part = path.with_name(f".{path.name}.{part_key[:12]}{PART_SUFFIX}")
    missing = num_bytes - (part.stat().st_size if part.is_file() else 0)
    if missing > (free := shutil.disk_usage(path.parent).free):
        raise WeightsError(
            f"{size_text(missing)} are still to come, {size_text(free)} are free.",
            path=path,
            remedy="Make room there, or choose another place with EXPOTION_CACHE.",
        )
    with _connection(manifest, path, address):
        _receive(address, part, num_bytes, lambda done: tell(file.name, done, num_bytes))
    if (found := _read(part, pin)) is None:
        part.unlink()
        stated = " ".join(pin.digest or ())
        raise WeightsError(
            f"What arrived is not what the {'hub' if manifest.repo else 'manifest'} states ({stated}); removed.",
            path=path,
            remedy=f"Run again: expotion fetch {manifest.name}. If it happens again, {_host(address)} serves a damaged "
            "copy.",
        )
    storage.put_in_place(part, path)
    return found


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
    return urllib.request.build_opener(Redirects).open(request, timeout=TIMEOUT_S)


class Redirects(urllib.request.HTTPRedirectHandler):
    """Follows redirects, as release pages answer with, but never out of https."""

    def redirect_request(self, request: Any, answer: Any, code: int, reason: str, headers: Any, address: str) -> Any:
        """The request to go on with. Raises HTTPError where the new address is less safe than the old one."""
        if urlsplit(address).scheme not in {"https", urlsplit(request.full_url).scheme}:
            raise urllib.error.HTTPError(request.full_url, code, f"it leads to {address}", headers, answer)
        return super().redirect_request(request, answer, code, reason, headers, address)


def _host(address: str) -> str:
    parts = urlsplit(address)
    return f"{parts.scheme}://{parts.netloc}"


@contextlib.contextmanager
def _connection(manifest: Manifest, wanted: Path, address: str) -> Iterator[None]:
    """Turn what goes wrong between here and the server into an error that names the file and the way out."""
    again = f"run: expotion fetch {manifest.name}"
    kept = "What has arrived is kept."
    try:
        yield
    except urllib.error.HTTPError as error:
        remedy = "Check HF_ENDPOINT and whether the hub still has it; a folder from elsewhere works too: --model FOLDER"
        if not manifest.repo:
            remedy = f"Get it elsewhere ({manifest.source or 'see its card'}), put it there, and {again}"
        if _passes(error):
            remedy = f"Later, {again}. {kept}"
        reason = f"{_host(address)} answers {error.code} ({error.reason}) for {manifest.repo or address}."
        raise WeightsError(reason, path=wanted, remedy=remedy) from error
    except _BROKEN as error:
        cause = getattr(error, "reason", None) or error
        raise WeightsError(
            f"This file can't be fetched: no connection to {_host(address)} ({cause}).",
            path=wanted,
            remedy=f"With network, {again}. {kept} Or copy the folder with its {LOCK_FILE} from a machine that has it.",
        ) from error
