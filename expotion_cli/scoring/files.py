"""How a run gets at clips and results: as files of this machine, which `remote.RemoteFiles` stands in for elsewhere."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from expotion_cli.errors import ExpotionError
from expotion_cli.scoring import sidecar

if TYPE_CHECKING:
    from expotion_cli.hints import FileHints


class Files:
    """Clips and results that lie where their paths say."""

    def sidecar(self, video: Path) -> dict[str, Any] | None:
        """What stands beside a result (`sidecar.read_sidecar`)."""
        return sidecar.read_sidecar(video)

    def exists(self, path: Path) -> bool:
        """Whether anything has this name in the output folder."""
        return os.path.lexists(path)

    def matches(self, path: Path, record: Any, hints: FileHints | None = None) -> bool:
        """Whether a file in the output folder is the one of this record (`sidecar.matches`)."""
        return sidecar.matches(path, record, hints)

    def is_broken(self, video: Path) -> bool:
        """Whether a result is no video any more: nobody edited it, it was cut off or damaged."""
        from expotion_cli.media.probe import probe

        try:
            probe(video)
        except Exception:
            return True
        return False

    def bring(self, clip: Path) -> None:
        """Make sure that a clip lies at its path.

        Raises:
            ClipError: it can't be had.
        """

    def deliver(self, video: Path, content: Mapping[str, Any]) -> None:
        """Put a finished result where it belongs.

        Args:
            video: its path; sidecar and MIDI file lie beside it.
            content: of its sidecar.

        Raises:
            OutputError: it can't be put there.
        """

    @property
    def keeps_here(self) -> bool:
        """Whether results stay on this machine."""
        return True

    def note_markers(self, video: Path, content: Mapping[str, Any]) -> None:
        """Put marker files that were written just now beside a result that is there, and its sidecar's new content.

        Args:
            video: the result's path.
            content: of its sidecar.

        Raises:
            OutputError: they can't be put there.
        """
        sidecar.write_sidecar(video, content)

    def called(self, path: Path) -> str:
        """What a user calls this file or folder."""
        return str(path)

    def renamed(self, error: ExpotionError) -> ExpotionError:
        """The error under the name that a user knows its file by."""
        return error


HERE = Files()
