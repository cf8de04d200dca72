"""Downloads the files a manifest lists, and only those: resumable, verified, pinned by a lock.

Files come from a model hub or from their own URLs. The hub's model API gives the commit behind a revision and, for each
file, its size and sha256 (large files) or git sha1 (small ones). That answer is requested once and kept as the lock;
from then on every byte is checked against it, and against the manifest where it says more. For a file with its own URL
the manifest gives what the publisher states (a sha256, the beginning of one, an md5), and the lock keeps the sha256 of
the first download. A partial file keeps a temporary name until it is complete and its digest is right. The hub's client
library neither resumes a broken download in a later run nor compares digests.
"""

from __future__ import annotations

import contextlib
import hashlib
import http.client
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

from expotion_cli import storage
from expotion_cli.errors import UsageError, WeightsError
from expotion_cli.version import __version__
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
"""Attempts in a row without a single byte received before a download fails."""
PAUSE_S = 2.0
PART_SUFFIX = ".part"

_CONNECTION_ERRORS = (urllib.error.URLError, http.client.HTTPException, ssl.SSLError, ConnectionError, TimeoutError)
"""Network failures; other OS errors are local, such as a full disk."""

Progress = Callable[[str, int, int], None]
"""Called with a file's name, the bytes already here, and its size."""


def hub_address() -> str:
    """The hub's URL: `HF_ENDPOINT` (a mirror) or the default.

    Raises:
        UsageError: `HF_ENDPOINT` is not a web address.
    """
    return _mirror("HF_ENDPOINT", f"Unset it, or use {HUB}.") or HUB


def file_address(manifest: Manifest, file: WeightFile) -> str:
    """The URL of a file that has its own, or `MODEL/FILE` under `EXPOTION_MIRROR`.

    Raises:
        UsageError: `EXPOTION_MIRROR` is not a web address.
    """
    mirror = _mirror("EXPOTION_MIRROR", "Unset it, or give the URL of a copy of the weights folder.")
    return f"{mirror}/{manifest.name}/{quote(file.name)}" if mirror else file.pin.url


def _mirror(variable: str, remedy: str) -> str:
    address = os.environ.get(variable, "").rstrip("/")
    if address and not address.startswith(("https://", "http://")):
        raise UsageError(f"{variable} is {address!r}, which is not a web address.", remedy=remedy)
    return address


def fetch(manifest: Manifest, *, on_progress: Progress | None = None) -> Lock:
    """Download a manifest's files into its folder.

    Complete files are kept, so a second run only verifies. Nothing that is downloaded is executed.

    Args:
        manifest: of a model that doesn't ship.
        on_progress: called with each file's progress.

    Returns:
        What is in the folder now: each file's sha256, and the commit if there is a repository.

    Raises:
        WeightsError: no network, the server refuses, a file's content is wrong, or it can't be written.
        UsageError: `HF_ENDPOINT` or `EXPOTION_MIRROR` is not a web address.
    """
    from filelock import FileLock, Timeout

    assert not manifest.ships and manifest.folder is not None
    folder, report = manifest.folder, on_progress or (lambda *_: None)
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        with FileLock(folder.parent / f".{folder.name}.lock", timeout=0):
            return _fetch(manifest, folder, report)
    except Timeout as error:
        raise WeightsError("Another fetch of this model is under way.", path=folder, remedy="Wait for it.") from error
    except OSError as error:  # of writing; reading from the hub has errors of its own
        raise WeightsError(
            f"The files can't be written ({error.strerror or error}).",
            path=folder,
            remedy="Make room there, or choose another place with EXPOTION_CACHE.",
        ) from error


def _fetch(manifest: Manifest, folder: Path, report: Progress) -> Lock:
    lock = _hub_lock(manifest, folder) if manifest.repo else Lock()
    pins = {file.name: lock.pins.get(file.name, file.pin) for file in manifest.files}
    for file in sorted(manifest.files, key=lambda file: pins[file.name].num_bytes or 0):
        pin = pins[file.name]
        found = _verified(file.path, pin) if pin.digest else None
        if found is None:
            address = f"{hub_address()}/{lock.repo}/resolve/{lock.revision}/{quote(file.name)}"
            part_key = pin.digest[1] if pin.digest else ""
            if not manifest.repo:
                address = file_address(manifest, file)
                pin, tag = _query_address(address, manifest, file)
                part_key = part_key or storage.digest_of([file.pin.url, pin.num_bytes, tag])
                # Put there by hand, and its publisher gives no digest: only the size can be compared.
                found = None if pin.digest else _verified(file.path, pin)
            found = found or _download(manifest, address, file, pin, part_key, report)
        lock.pins[file.name] = found
        assert found.num_bytes is not None
        report(file.name, found.num_bytes, found.num_bytes)
        write_lock(folder, lock)
    for rest in folder.rglob(f".*{PART_SUFFIX}"):
        rest.unlink()  # of another commit
    return lock


def _hub_lock(manifest: Manifest, folder: Path) -> Lock:
    """What the files of a repository must contain: by an earlier fetch or by the hub, checked against the manifest."""
    names = {file.name for file in manifest.files}
    lock = read_lock(folder, manifest.repo, manifest.revision)
    if lock is None or not names <= set(lock.pins):
        lock = _query_hub(manifest, lock.revision if lock else manifest.revision or "main")
    _check_against_manifest(manifest, lock)
    # Written before the first byte arrives, so that an interrupted fetch resumes at the same commit.
    write_lock(folder, lock)
    return lock


def _query_hub(manifest: Manifest, revision: str) -> Lock:
    """Sizes and digests of the listed files at a revision, from the hub's API."""
    url = f"{hub_address()}/api/models/{manifest.repo}/revision/{quote(revision, safe='')}?blobs=true"
    assert manifest.folder is not None
    wanted = manifest.folder / manifest.files[0].name
    with _connection(manifest, wanted, hub_address()), _open(url) as answer:
        content = answer.read(storage.LARGEST_JSON_BYTES)
    try:
        values = storage.parse_json(content)
        stated = {entry["rfilename"]: entry for entry in values["siblings"]}
        lock = Lock(manifest.repo, str(values["sha"]))
        for file in manifest.files:
            if file.name not in stated:
                raise WeightsError(
                    f"The hub's {manifest.repo} has no such file at revision {revision}.",
                    path=file.path,
                    remedy="The repository has changed since this version of expotion; install a newer one.",
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


def _check_against_manifest(manifest: Manifest, lock: Lock) -> None:
    """Compare the hub's answer with the manifest; files are checked against the stricter of the two."""
    for file in manifest.files:
        pin = lock.pins[file.name]
        if file.num_bytes not in (None, pin.num_bytes) or (file.sha256 and pin.sha256 not in (None, file.sha256)):
            raise WeightsError(
                f"The hub's {manifest.repo} at {lock.revision[:7]} has another content for this file "
                f"({pin.num_bytes} bytes, sha256 {pin.sha256}) than the manifest ({file.sha256}).",
                path=file.path,
                remedy="Don't use the file; report this to the package's authors.",
            )
        if file.sha256 and pin.sha256 is None:
            lock.pins[file.name] = replace(pin, sha256=file.sha256)


def _query_address(address: str, manifest: Manifest, file: WeightFile) -> tuple[Pin, str]:
    """What a file with its own URL must contain, with the size the server reports, and the server's ETag."""
    # A GET like the download itself: signed URLs accept only one method.
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
            remedy="Don't use the file; report this to the package's authors.",
        )
    return replace(file.pin, num_bytes=int(size)), tag


def _verified(path: Path, pin: Pin) -> Pin | None:
    """The pin, completed with the file's size and sha256, if the file exists and matches it; else None."""
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


def _download(manifest: Manifest, address: str, file: WeightFile, pin: Pin, part_key: str, report: Progress) -> Pin:
    """Download one file to a temporary name, verify it, rename it. Returns the pin with its sha256."""
    path, num_bytes = file.path, pin.num_bytes
    assert num_bytes is not None
    path.parent.mkdir(parents=True, exist_ok=True)
    # The key in the name keeps a partial file from being continued with other content.
    part = path.with_name(f".{path.name}.{part_key[:12]}{PART_SUFFIX}")
    missing = num_bytes - (part.stat().st_size if part.is_file() else 0)
    if missing > (free := shutil.disk_usage(path.parent).free):
        raise WeightsError(
            f"{size_text(missing)} are still to come, {size_text(free)} are free.",
            path=path,
            remedy="Make room there, or choose another place with EXPOTION_CACHE.",
        )
    with _connection(manifest, path, address):
        _receive(address, part, num_bytes, lambda done: report(file.name, done, num_bytes))
    if (found := _verified(part, pin)) is None:
        part.unlink()
        stated = " ".join(pin.digest or ())
        raise WeightsError(
            f"The downloaded file is not what the {'hub' if manifest.repo else 'manifest'} states ({stated}); removed.",
            path=path,
            remedy=f"Run again: expotion fetch {manifest.name}. If it happens again, {_host(address)} serves a damaged "
            "copy.",
        )
    storage.put_in_place(part, path)
    return found


def _receive(url: str, part: Path, num_bytes: int, report: Callable[[int], None]) -> None:
    """Append the missing bytes to the partial file, reconnecting when the connection breaks."""
    failures = 0
    with open(part, "ab") as file:
        if file.tell() > num_bytes:
            _truncate(file)
        while (start := file.tell()) < num_bytes:
            try:
                for chunk in _chunks(url, start, file):
                    file.write(chunk[: num_bytes - file.tell()])
                    report(file.tell())
                    if file.tell() == num_bytes:
                        break
                if file.tell() == start:
                    raise http.client.IncompleteRead(b"", num_bytes - start)
                failures = 0
            except urllib.error.HTTPError as error:
                if not _is_temporary(error):
                    raise
                failures = _count_failure(failures, error)
            except _CONNECTION_ERRORS as error:
                failures = 0 if file.tell() > start else _count_failure(failures, error)


def _is_temporary(error: urllib.error.HTTPError) -> bool:
    """Whether the same request may succeed later."""
    return error.code >= 500 or error.code in (408, 429)


def _count_failure(failures: int, error: Exception) -> int:
    if failures + 1 >= ATTEMPTS:
        raise error
    time.sleep(PAUSE_S * (failures + 1))
    return failures + 1


def _chunks(url: str, start: int, file: BinaryIO) -> Iterator[bytes]:
    """The content from `start` on; truncates the file first if the server ignores the range."""
    with _open(url, {"Range": f"bytes={start}-"} if start else {}) as answer:
        if start and answer.status != 206:
            _truncate(file)
        elif start and not answer.headers.get("Content-Range", "").startswith(f"bytes {start}-"):
            raise http.client.HTTPException("the server answers with another part of the file")
        while chunk := answer.read1(storage.CHUNK_BYTES):
            yield chunk


def _truncate(file: BinaryIO) -> None:
    file.seek(0)
    file.truncate()


def _open(url: str, headers: dict[str, str] | None = None) -> Any:
    request = urllib.request.Request(url, headers={"User-Agent": f"expotion/{__version__}", **(headers or {})})
    return urllib.request.build_opener(Redirects).open(request, timeout=TIMEOUT_S)


class Redirects(urllib.request.HTTPRedirectHandler):
    """Follows redirects, but never from https to http."""

    def redirect_request(self, request: Any, answer: Any, code: int, reason: str, headers: Any, address: str) -> Any:
        """The request to continue with. Raises HTTPError if the new address would leave https."""
        if urlsplit(address).scheme not in {"https", urlsplit(request.full_url).scheme}:
            raise urllib.error.HTTPError(request.full_url, code, f"it leads to {address}", headers, answer)
        return super().redirect_request(request, answer, code, reason, headers, address)


def _host(address: str) -> str:
    parts = urlsplit(address)
    return f"{parts.scheme}://{parts.netloc}"


@contextlib.contextmanager
def _connection(manifest: Manifest, wanted: Path, address: str) -> Iterator[None]:
    """Turn network failures into errors that name the file and the remedy."""
    again = f"run: expotion fetch {manifest.name}"
    kept = "What has arrived is kept."
    try:
        yield
    except urllib.error.HTTPError as error:
        remedy = "Check HF_ENDPOINT and whether the hub still has it; a folder from elsewhere works too: --model FOLDER"
        if not manifest.repo:
            remedy = f"Get it elsewhere ({manifest.source or 'see its card'}), put it there, and {again}"
        if _is_temporary(error):
            remedy = f"Later, {again}. {kept}"
        reason = f"{_host(address)} answers {error.code} ({error.reason}) for {manifest.repo or address}."
        raise WeightsError(reason, path=wanted, remedy=remedy) from error
    except _CONNECTION_ERRORS as error:
        cause = getattr(error, "reason", None) or error
        raise WeightsError(
            f"This file can't be fetched: no connection to {_host(address)} ({cause}).",
            path=wanted,
            remedy=f"With network, {again}. {kept} Or copy the folder with its {LOCK_FILE} from a machine that has it.",
        ) from error
