"""What is freed while a long clip is looked at goes back to the system."""

from __future__ import annotations

import ctypes
import sys
from pathlib import Path

import numpy as np
import pytest

from expotion_cli.vision import memory, streams
from expotion_cli.vision.flow import FlowEncoder
from expotion_cli.vision.streams import encode_clip

needs_glibc = pytest.mark.skipif(
    sys.platform != "linux" or not hasattr(ctypes.CDLL(None), "malloc_trim"), reason="only glibc keeps what is freed"
)


def resident_mb() -> float:
    return int(Path("/proc/self/statm").read_text().split()[1]) * 4096 / 1e6


@needs_glibc
def test_what_is_freed_below_something_still_in_use_goes_back():
    size = 60_000  # too small for pages of its own
    memory.release_free()  # or what tests before this one freed would be used again
    before = resident_mb()
    pieces = [np.ones(size, dtype=np.uint8) for _ in range(2000)]
    pieces = pieces[::40]  # holes between what is kept
    held = resident_mb()
    memory.release_free()
    assert held - before > 60 and resident_mb() - before < 30
    assert all(piece.all() for piece in pieces)


def test_other_systems_are_left_alone(monkeypatch):
    asked = []
    monkeypatch.setattr(memory.ctypes, "CDLL", lambda *name: asked.append(name))
    monkeypatch.setattr(memory.sys, "platform", "darwin")
    memory._malloc_trim.cache_clear()
    memory.release_free()
    memory._malloc_trim.cache_clear()
    assert asked == []


def test_it_is_called_over_and_over_while_a_clip_is_looked_at_and_changes_nothing(moving_patch, monkeypatch):
    clip = moving_patch(160, 90, 1.0)
    plain = encode_clip(clip, ["flow"])["flow"]
    calls = []
    monkeypatch.setattr(memory, "RELEASE_EVERY_S", 0.1)
    monkeypatch.setattr(memory, "release_free", lambda: calls.append(1))
    again = encode_clip(clip, ["flow"])["flow"]
    assert np.array_equal(again.values, plain.values)
    assert 8 <= len(calls) <= 12


def test_networks_end_a_clip_first_and_streams_come_in_the_order_asked_for(moving_patch, monkeypatch):
    ended = []

    class Network(FlowEncoder):
        """Stands behind all others in the registry, as networks do."""

        def finish(self, duration):
            ended.append("network")
            return super().finish(duration)

    real = FlowEncoder.finish
    monkeypatch.setattr(FlowEncoder, "finish", lambda self, duration: (ended.append("flow"), real(self, duration))[1])
    monkeypatch.setitem(streams.REGISTRY, "network", "none")
    kinds = {"flow": FlowEncoder, "network": Network}
    monkeypatch.setattr(streams, "make_encoder", lambda source: kinds[source.name]())
    found = encode_clip(moving_patch(160, 90, 0.4), ["flow", "network"])
    assert ended == ["network", "flow", "flow"] and list(found) == ["flow", "network"]
    assert np.array_equal(found["flow"].values, found["network"].values)
