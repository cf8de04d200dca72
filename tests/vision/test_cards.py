"""Model cards say of each stream what its encoder gives."""

from __future__ import annotations

import re

import pytest

from expotion_cli.assets import shipped_folder
from expotion_cli.vision.encoder import REGISTRY, make_encoder
from expotion_cli.weights.manifest import read_manifests


@pytest.mark.parametrize("name", REGISTRY)
def test_every_streams_card_tells_its_width_and_rate(name):
    encoder = make_encoder(name)
    card = next(manifest.name for manifest in read_manifests().values() if name in manifest.streams)
    text = (shipped_folder("models") / f"{card}.md").read_text(encoding="utf-8")
    assert re.search(rf"\b{encoder.dim} (named )?(dimensions|numbers) at {encoder.rate_hz:g} Hz", text)
    assert f"expotion_cli/vision/{type(encoder).__module__.rpartition('.')[2]}.py" in text


@pytest.mark.parametrize("name", ["face", "pose", "flow"])
def test_every_dimension_named_on_a_card_is_there(name):
    """Parts in capitals stand for several names, and so does what follows an ellipsis."""
    dims = make_encoder(name).dims
    card = next(m.name for m in read_manifests().values() if name in m.streams)
    text = (shipped_folder("models") / f"{card}.md").read_text(encoding="utf-8")
    section = text.partition("## What the stream holds")[2].partition("**An accent**")[0]
    named = {word for line in section.splitlines() if line.startswith("- ") for word in re.findall(r"`([^`]+)`", line)}
    patterns = [re.sub("[A-Z]{2,}", "[a-z0-9_]+", word.replace("…", ".*")) for word in named]
    patterns = [pattern for pattern in patterns if pattern not in ("left", "right")]
    for pattern in patterns:
        assert any(re.fullmatch(pattern, dim) for dim in dims), pattern
    alone = [dim for dim in dims if not dim.startswith(("blend_", "cell_"))]
    assert all(any(re.fullmatch(pattern, dim) for pattern in patterns) for dim in alone)
