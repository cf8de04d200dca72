"""Files that carry markers, by format."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from expotion_cli.errors import UsageError, reading
from expotion_cli.storage import read_text
from expotion_cli.timeline.edl import read_edl, write_edl
from expotion_cli.timeline.fcpxml import read_fcpxml, write_fcpxml
from expotion_cli.timeline.marker import Footage, FoundMarker, Marker
from expotion_cli.timeline.otio import read_otio, write_otio
from expotion_cli.timeline.table import write_table

WRITERS: Mapping[str, Callable[[Footage, Sequence[Marker]], str]] = {
    "edl": write_edl,
    "fcpxml": write_fcpxml,
    "otio": write_otio,
    "csv": write_table,
}
"""Formats that can be written; each is also the suffix of its files."""
READERS: Mapping[str, Callable[[str], list[FoundMarker]]] = {
    ".edl": read_edl,
    ".fcpxml": read_fcpxml,
    ".fcpxmld": read_fcpxml,
    ".otio": read_otio,
}
"""Suffixes of files that can be read here; tables are read by `spotting.hits_file`."""
MAX_BYTES = 32 << 20
_REMEDY = "Export the markers again."


def read_markers(path: Path) -> list[FoundMarker]:
    """Markers of a file, by its suffix, one of `READERS`.

    Raises:
        UsageError: it can't be read, is damaged, or holds no markers.
    """
    place = path / "Info.fcpxml" if path.is_dir() else path  # Final Cut Pro's bundles are folders
    with reading(path, "the markers", error=UsageError, remedy=_REMEDY, also=(ValueError,)):
        return READERS[path.suffix.lower()](read_text(place, MAX_BYTES))
