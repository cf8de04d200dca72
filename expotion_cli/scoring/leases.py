"""Leases on clips: of several processes that score into one folder, each clip is worked on by one at a time.

A lease is a small file in `.expotion/leases` of the output folder, which its holder keeps fresh. Whoever finds it finds
the holder's process and host in it. A lease expires when its process has died, or when nobody has freshened it for
`LEASE_S` by the clock of whoever waits: so hosts need not agree on the time.
"""

from __future__ import annotations

import contextlib
import hashlib
from pathlib import Path
from typing import TYPE_CHECKING

from expotion_cli.errors import UsageError, reason_of

if TYPE_CHECKING:
    import filelock

LEASE_S = 30.0
FOLDER, SUFFIX = ".expotion", ".lease"


class Leases:
    """The leases of one process on the results of an output folder.

    Args:
        out: the output folder.
    """

    def __init__(self, out: Path):
        self.folder = out / FOLDER / "leases"
        self._held: dict[str, filelock.SoftFileLease] = {}
        self._waiting: dict[str, filelock.SoftFileLease] = {}

    def take(self, name: str) -> bool:
        """Try to take a lease, without waiting; one that is held already stays.

        Args:
            name: the result's path inside the output folder.

        Raises:
            UsageError: leases can't be written.
        """
        if name in self._held:
            return True
        import filelock  # not needed where all is done already

        # Kept between attempts: it remembers for how long the other's lease has not been freshened.
        lease = self._waiting.pop(name, None) or self._lease(self._path(name))
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            lease.acquire(blocking=False)
        except filelock.Timeout:
            self._waiting[name] = lease
            return False
        except OSError as error:
            raise UsageError(
                f"the output folder can't be written ({reason_of(error)}).",
                path=self.folder,
                remedy="Choose another with --out.",
            ) from error
        self._held[name] = lease
        return True

    def holds(self, name: str) -> bool:
        """Whether a lease that was taken is still ours: a process that was stopped for long may have lost it."""
        lease = self._held.get(name)
        return lease is not None and lease.token is not None and self._read(name).get("token") == lease.token

    def holder(self, name: str) -> str:
        """Who holds a lease: "process 123 on studio-2"; what can't be told is left out."""
        found = self._read(name)
        return f"process {found['pid']} on {found['host']}" if {"pid", "host"} <= found.keys() else "another process"

    def release(self, name: str) -> None:
        """Give a lease back, if it is held."""
        if (lease := self._held.pop(name, None)) is not None:
            with contextlib.suppress(OSError):
                lease.release()

    def close(self) -> None:
        """Give all leases back; remove those of dead processes, and the folders if nobody else uses them."""
        for name in list(self._held):
            self.release(name)
        if not self.folder.is_dir():
            return
        import filelock

        for path in self.folder.glob(f"*{SUFFIX}"):
            with contextlib.suppress(filelock.Timeout, OSError), self._lease(path).acquire(blocking=False):
                pass
        for folder in (self.folder, self.folder.parent):
            with contextlib.suppress(OSError):
                folder.rmdir()

    def _path(self, name: str) -> Path:
        return self.folder / f"{hashlib.sha256(name.encode('utf-8', 'surrogateescape')).hexdigest()[:32]}{SUFFIX}"

    def _read(self, name: str) -> dict[str, str]:
        """What stands in a lease; empty if there is none."""
        with contextlib.suppress(OSError, ValueError):
            lines = self._path(name).read_text(encoding="utf-8").splitlines()
            return dict(line.split("=", 1) for line in lines if "=" in line)
        return {}

    def _lease(self, path: Path) -> filelock.SoftFileLease:
        import filelock

        return filelock.SoftFileLease(path, lease_duration=LEASE_S, thread_local=False)
