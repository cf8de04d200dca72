"""How fast stages ran on this machine, remembered in the cache folder: what a dry run estimates with."""

from __future__ import annotations

import contextlib
import statistics
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from expotion_cli.scoring.estimate import PHASE_OF
from expotion_cli.storage import cache_root, parse_json, read_text, write_hint

KEPT = 50
"""Measurements of one kind that are remembered, the latest."""
MOST_KINDS = 100
CACHED = 0.02
"""Seeing that took less than this share of a clip's length was reading from the cache."""
_FORMAT = 1
_MOST_BYTES = 1 << 20


class Speeds:
    """Seconds of work for each second of a clip, as measured.

    Args:
        path: the file that remembers them; by default `speeds.json` in the cache folder.
    """

    def __init__(self, path: Path | None = None):
        self.path = path or cache_root() / "speeds.json"
        self._kinds: dict[str, list[float]] = {}
        with contextlib.suppress(OSError, ValueError, AttributeError, KeyError, TypeError):
            content = parse_json(read_text(self.path, _MOST_BYTES))
            if content.get("format") == _FORMAT:
                kinds = {str(kind): [float(value) for value in values] for kind, values in content["kinds"].items()}
                self._kinds = {kind: values for kind, values in kinds.items() if values and min(values) >= 0}

    def add(self, sidecars: Iterable[Mapping[str, Any]]) -> None:
        """Learn from results that were scored just now, and remember it, if the cache can be written."""
        learnt = False
        for sidecar in sidecars:
            for kind, value in _measured(sidecar).items():
                self._kinds[kind] = [*self._kinds.pop(kind, []), round(value, 5)][-KEPT:]
                learnt = True
        if learnt:
            kinds = dict(list(self._kinds.items())[-MOST_KINDS:])
            with contextlib.suppress(OSError):
                write_hint(self.path, {"format": _FORMAT, "kinds": kinds})

    def estimate(self, phase: str, duration_s: float, *, model: str, device: str | None, streams: Iterable[str]) -> Any:
        """Seconds that a phase of a clip will take; None where it was never measured.

        Args:
            phase: of `estimate.PHASES`.
            duration_s: of the clip.
            model: its name.
            device: that composes; None for any.
            streams: that are seen.
        """
        kind = _kind(phase, model, device or "", streams)
        found = [values for known, values in self._kinds.items() if known == kind or (not device and kind in known)]
        return statistics.median(found[-1]) * duration_s if found else None


def _kind(phase: str, model: str, device: str, streams: Iterable[str]) -> str:
    if phase == "see":
        return f"see {','.join(sorted(streams))}"
    return f"{phase} {model} on {device}"


def _measured(sidecar: Mapping[str, Any]) -> dict[str, float]:
    """Seconds a second by kind, from a sidecar."""
    try:
        stages, duration_s = sidecar["stages_s"], float(sidecar["clip"]["duration_s"])
        model, device = sidecar["model"]["name"], str(sidecar["device"])
        streams = [each["name"] for each in sidecar["streams"]]
        found = {}
        if streams and stages["see"] / duration_s > CACHED:
            found[_kind("see", model, device, streams)] = stages["see"] / duration_s
        found[_kind("compose", model, device, ())] = stages["compose"] / sidecar["composed_together"] / duration_s
        finished = sum(stages.get(stage, 0.0) for stage, phase in PHASE_OF.items() if phase == "finish")
        found[_kind("finish", model, device, ())] = finished / duration_s
    except (KeyError, TypeError, ValueError, ZeroDivisionError):
        return {}
    return found
