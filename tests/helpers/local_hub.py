"""A model hub on this machine: the part of the hub's API that a fetch uses, with the troubles a network has.

It is also a release page: `/releases/FILE` leads, by a redirect, to the file itself.
"""

from __future__ import annotations

import hashlib
import json
import re
import threading
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import unquote, urlsplit

import pytest

from expotion_cli.weights import fetch, manifest

REPO = "someone/tiny"
"""What the model of these tests is called on the hub; in its manifest it is `tiny`."""
LICENCE = "CC-BY-NC-4.0 (of somebody)"
ABOUT_BYTES = 10_000
SMALL = 300
"""Files up to this size are git's own; larger ones are stated by their sha256 and served from another address."""


class LocalHub:
    """Serves one repository; a context manager.

    Attributes:
        revisions: reference or commit → {file name: content}.
        head: reference → commit.
        served: (file name, first byte, bytes sent) of every download, in order.
        asked: number of questions to the API.
        break_after: file name → after how many bytes its downloads break off, one after the other.
        damage: names of files whose content arrives altered.
        ignore_range: serve every download from its beginning.
        unsized: send files without saying how long they are.
        redirect: where `/releases/FILE` leads instead, or None.
        status: answer everything with this code, or None.
    """

    def __init__(self, repo: str, files: dict[str, bytes]):
        self.repo = repo
        self.revisions: dict[str, dict[str, bytes]] = {}
        self.head: dict[str, str] = {}
        self.served: list[tuple[str, int, int]] = []
        self.asked = 0
        self.break_after: dict[str, list[int]] = {}
        self.damage: set[str] = set()
        self.ignore_range = False
        self.unsized = False
        self.redirect: str | None = None
        self.status: int | None = None
        self.commit("main", files)
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), type("Handler", (_Handler,), {"hub": self}))
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.02,), daemon=True)

    @property
    def address(self) -> str:
        """To give as HF_ENDPOINT."""
        return f"http://127.0.0.1:{self._server.server_port}"

    def commit(self, reference: str, files: dict[str, bytes]) -> str:
        """Move a reference to new content; earlier commits stay."""
        commit = hashlib.sha1(repr(sorted(files.items())).encode()).hexdigest()
        self.revisions[commit], self.head[reference] = files, commit
        return commit

    def files(self, revision: str) -> tuple[str, dict[str, bytes]] | None:
        """(commit, content) of a reference or commit."""
        commit = self.head.get(revision, revision)
        return (commit, self.revisions[commit]) if commit in self.revisions else None

    def sent(self, name: str) -> int:
        """Bytes of a file that went out so far."""
        return sum(count for served, _, count in self.served if served == name)

    def __enter__(self) -> LocalHub:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()


@contextmanager
def serving(files: dict[str, bytes], monkeypatch: pytest.MonkeyPatch, repo: str = REPO) -> Iterator[LocalHub]:
    """A hub with one repository; what is fetched comes from it, even when it is gone again."""
    for name in ("http_proxy", "HTTP_PROXY", "all_proxy", "ALL_PROXY"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(fetch, "PAUSE_S", 0.0)
    with LocalHub(repo, files) as hub:
        monkeypatch.setenv("HF_ENDPOINT", hub.address)
        yield hub


def only_model(
    folder: Path, names: Iterable[str], monkeypatch: pytest.MonkeyPatch, *, revision: str = "main", big: str = ""
) -> None:
    """Make `folder` the folder of manifests, with that of `someone/tiny` alone; `big`: a line about its weights."""
    lines = ['kind = "music"', 'title = "Tiny"', f'licence = "{LICENCE}"', "restricted = true"]
    lines += [f'repo = "{REPO}"', f'revision = "{revision}"', f"about_bytes = {ABOUT_BYTES}"]
    for name in names:
        lines += ["", "[[files]]", f'path = "{name}"', *([big] if name == "model.safetensors" else [])]
    (folder / "tiny.toml").write_text("\n".join(lines) + "\n")
    monkeypatch.setattr(manifest, "shipped_folder", lambda name: folder)


def only_encoder(
    folder: Path,
    names: Iterable[str],
    address: str,
    monkeypatch: pytest.MonkeyPatch,
    *,
    stated: str = "",
    about_bytes: int = ABOUT_BYTES,
) -> None:
    """Make `folder` the folder of manifests, with an encoder `eye` alone; its files come from `address`/releases.

    `stated`: a line about each of its files.
    """
    lines = ['kind = "encoder"', 'title = "Sees"', f'licence = "{LICENCE}"', 'streams = ["sight"]']
    lines += ['source = "https://example.org/eye"', f"about_bytes = {about_bytes}"]
    for name in names:
        lines += [
            "",
            "[[files]]",
            f'path = "{name}"',
            f'url = "{address}/releases/{name}"',
            *([stated] if stated else []),
        ]
    (folder / "eye.toml").write_text("\n".join(lines) + "\n")
    monkeypatch.setattr(manifest, "shipped_folder", lambda name: folder)


class _Handler(BaseHTTPRequestHandler):
    hub: LocalHub
    protocol_version = "HTTP/1.1"

    def log_message(self, *_: object) -> None:
        pass

    def do_GET(self) -> None:
        hub, path = self.hub, urlsplit(self.path).path
        if hub.status is not None:
            return self._answer(hub.status, b"no")
        if found := re.fullmatch(f"/api/models/{re.escape(hub.repo)}/revision/(.+)", path):
            hub.asked += 1
            return self._api(hub.files(unquote(found[1])))
        if found := re.fullmatch(f"/{re.escape(hub.repo)}/resolve/([^/]+)/(.+)", path):
            state = hub.files(unquote(found[1]))
            if state is None or found[2] not in state[1]:
                return self._answer(404, b"Entry not found")
            if len(state[1][found[2]]) > SMALL:
                return self._answer(302, b"", {"Location": f"{hub.address}/cdn/{state[0]}/{found[2]}"})
            return self._content(found[2], state[1][found[2]])
        if found := re.fullmatch("/releases/(.+)", path):
            commit, files = hub.files("main")
            if unquote(found[1]) not in files:
                return self._answer(404, b"Not found")
            return self._answer(302, b"", {"Location": hub.redirect or f"{hub.address}/cdn/{commit}/{found[1]}"})
        if found := re.fullmatch("/cdn/([0-9a-f]+)/(.+)", path):
            return self._content(found[2], hub.revisions[found[1]][found[2]])
        return self._answer(401, b"Repository not found")

    def _api(self, state: tuple[str, dict[str, bytes]] | None) -> None:
        if state is None:
            return self._answer(404, b"Revision not found")
        siblings = []
        for name, content in {".gitattributes": b"", **state[1]}.items():
            git = hashlib.sha1(b"blob %d\0" % len(content) + content).hexdigest()
            entry: dict = {"rfilename": name, "size": len(content), "blobId": git}
            if len(content) > SMALL:
                entry |= {
                    "blobId": "0" * 40,  # of the pointer
                    "lfs": {"sha256": hashlib.sha256(content).hexdigest(), "size": len(content), "pointerSize": 134},
                }
            siblings.append(entry)
        body = json.dumps({"id": self.hub.repo, "sha": state[0], "siblings": siblings}).encode()
        return self._answer(200, body, {"Content-Type": "application/json"})

    def _content(self, name: str, content: bytes) -> None:
        hub = self.hub
        if name in hub.damage:
            content = content[:-1] + bytes([content[-1] ^ 1])
        asked = re.fullmatch(r"bytes=(\d+)-(\d*)", self.headers.get("Range", ""))
        if hub.ignore_range or hub.unsized:
            asked = None
        if asked and asked[2]:
            self._part(content, int(asked[1]), int(asked[2]))
            return
        start = int(asked[1]) if asked else 0
        body = content[start:]
        breaks = hub.break_after.get(name)
        stop = breaks.pop(0) if breaks else len(body)
        self.send_response(206 if start else 200)
        if start:
            self.send_header("Content-Range", f"bytes {start}-{len(content) - 1}/{len(content)}")
        self.send_header("ETag", f'"{hashlib.md5(content).hexdigest()}"')
        if hub.unsized:
            self.close_connection = True
        else:
            self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        hub.served.append((name, start, len(body[:stop])))  # first, or the client is done before it is counted
        self.wfile.write(body[:stop])
        self.wfile.flush()
        if stop < len(body):
            self.close_connection = True

    def _part(self, content: bytes, first: int, last: int) -> None:
        """A few bytes, which is how a client asks for a file's length; not counted as a download."""
        span = {"Content-Range": f"bytes {first}-{last}/{len(content)}"}
        return self._answer(206, content[first : last + 1], {"ETag": f'"{hashlib.md5(content).hexdigest()}"', **span})

    def _answer(self, code: int, body: bytes, headers: dict[str, str] | None = None) -> None:
        self.send_response(code)
        for key, value in (headers or {}).items():
            self.send_header(key, value)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)
