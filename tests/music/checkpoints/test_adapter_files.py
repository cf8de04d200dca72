"""Adapters as the authors released them, and the way to PEFT's layout and back."""

from __future__ import annotations

import json
import os
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from options import make_request, make_sampling

from expotion_cli.errors import UnknownNameError, WeightsError
from expotion_cli.music.checkpoints.adapter_files import load_adapter, save_adapter
from expotion_cli.music.conditioning import condition
from expotion_cli.music.load import load_model
from expotion_cli.music.transformer.adapter import AdapterConfig, JointEmbeddingAdapter, StreamSpec
from expotion_cli.music.transformer.config import DecoderConfig
from expotion_cli.music.transformer.context import LockstepContext
from expotion_cli.music.transformer.decoder import MusicDecoder

WINDOW, DIM, RANK = 24, 32, 6


def released(width: int = 768, num_layers: int = 2, seed: int = 0) -> dict[str, torch.Tensor]:
    """Tensors with the keys and the order of sizes of the authors' files."""
    torch.manual_seed(seed)
    tensors = {
        "pos_emb": torch.randn(num_layers + 1, WINDOW + 1, DIM),
        "ld_proj.weight": torch.randn(RANK, width) * width**-0.5,
    }
    tensors |= {f"merge_linear.{i}.weight": torch.randn(DIM, RANK) for i in range(num_layers)}
    return tensors | {"gates": torch.rand(num_layers) + 0.5}


def save(path: Path, tensors: Any) -> Path:
    torch.save(tensors, path)
    return path


@pytest.fixture(scope="module")
def decoder() -> MusicDecoder:
    torch.manual_seed(0)
    sizes = DecoderConfig(DIM, num_layers=3, num_heads=4, ffn_dim=64, num_codebooks=4, vocab_size=64, text_dim=24)
    return MusicDecoder(sizes).eval().requires_grad_(False)


class Seen:
    """A clip's embedding, 5 rows a second."""

    rate_hz = 5.0

    def __init__(self, width: int, seed: int = 0):
        self.values = (3 * np.random.default_rng(seed).standard_normal((6, width))).astype(np.float32)
        self.mask, self.dims = np.ones(6, bool), tuple(f"unit{i}" for i in range(width))


def greedy(model, streams, steps: int = 40) -> np.ndarray:
    timeline = model.codec.timeline(Fraction(steps, 50), None)
    request = make_request(
        "slow sad piano", timeline, model.condition(streams, timeline), 0, make_sampling(temperature=0)
    )
    ((_, tokens),) = model.generate([request])
    return tokens


@pytest.mark.parametrize(
    ("width", "streams"),
    [
        (256, [("raft", 256)]),
        (512, [("facenet", 512)]),
        (768, [("synchformer", 768)]),
        (1280, [("facenet", 512), ("synchformer", 768)]),
    ],
)
def test_sizes_follow_from_the_shapes_and_known_widths_name_their_streams(decoder, tmp_path, width, streams):
    tensors = released(width)
    adapter, _ = load_adapter(save(tmp_path / "motion.pth", tensors), decoder)
    config = adapter.config
    assert (config.dim, config.num_layers, config.rank, config.window_steps) == (DIM, 2, RANK, WINDOW)
    assert [(spec.name, len(spec.dims)) for spec in config.streams] == streams
    assert all(torch.equal(adapter.state_dict()[name], tensor) for name, tensor in tensors.items())
    assert not any(row.any() for row in adapter.missing.values())
    assert not any(parameter.requires_grad for parameter in adapter.parameters())


def test_a_released_file_loads_generates_and_goes_to_pefts_layout_and_back(tiny_folder, tmp_path):
    path = save(tmp_path / "motion.pth", released() | {"masked_embedding": torch.randn(768)})
    streams = {"synchformer": Seen(768)}
    model = load_model(str(tiny_folder), device="cpu", adapter=path)
    assert model.streams == ("synchformer",) and model.adapter_name == str(path) and model.engine.window == WINDOW
    first = greedy(model, streams)
    save_adapter(tmp_path / "peft", model.adapter, str(tiny_folder), torch.float32)
    values = json.loads((tmp_path / "peft" / "adapter_config.json").read_text())
    assert values["streams"] == [{"name": "synchformer", "width": 768}]
    again = load_model(str(tiny_folder), device="cpu", adapter=tmp_path / "peft")
    assert again.adapter.config == model.adapter.config
    assert np.array_equal(greedy(again, streams), first)
    back = {name: tensor for name, tensor in again.adapter.state_dict().items() if not name.startswith("missing.")}
    third = load_model(str(tiny_folder), device="cpu", adapter=save(tmp_path / "back.pth", back))
    assert np.array_equal(greedy(third, streams), first)
    assert not np.array_equal(greedy(third, {"synchformer": Seen(768, seed=1)}), first)


def test_it_computes_what_its_tensors_say(decoder, tmp_path):
    tensors = released()
    adapter, _ = load_adapter(save(tmp_path / "motion.pth", tensors), decoder)
    torch.manual_seed(1)
    seen = torch.randn(1, WINDOW + 1, 768)
    masks = {"synchformer": torch.ones(1, WINDOW + 1, dtype=torch.bool)}
    tokens = torch.randint(0, 64, (1, 4, 10))
    text = decoder.encode_text(torch.randn(1, 3, 24), torch.ones(1, 3, dtype=torch.bool))
    by_hand = JointEmbeddingAdapter(
        AdapterConfig(DIM, 2, RANK, WINDOW, (StreamSpec("any", tuple(map(str, range(768)))),))
    )
    by_hand.load_state_dict(tensors, strict=False)
    expected = by_hand.side_stream(decoder, seen)
    found = adapter.side_stream(decoder, adapter.join_streams({"synchformer": seen}, masks))
    with torch.no_grad():
        logits = [decoder(tokens, LockstepContext(text, side_stream=visual)) for visual in (expected, found, None)]
    assert torch.equal(logits[0], logits[1]) and (logits[0] - logits[2]).abs().max() > 1e-3


@pytest.mark.parametrize(
    "wrap",
    [
        lambda t: {"state_dict": t},
        lambda t: {f"module.{name}": value for name, value in t.items()},
        lambda t: {"state_dict": {f"module.{name}": value for name, value in t.items()}},
        lambda t: t | {"gates": t["gates"].reshape(-1, 1, 1)},
        lambda t: {name: torch.nn.Parameter(value) for name, value in t.items()},
    ],
)
def test_wrapped_as_trainers_wrap_them_the_tensors_are_found(decoder, tmp_path, wrap):
    tensors = released()
    adapter, _ = load_adapter(save(tmp_path / "motion.pth", wrap(tensors)), decoder)
    assert all(torch.equal(adapter.state_dict()[name], tensor) for name, tensor in tensors.items())


@pytest.mark.parametrize("shape", [(1280,), (1, 1280), (1, 1, 1280)])
def test_a_masked_embedding_of_all_streams_becomes_the_row_of_each(decoder, tmp_path, shape):
    row = torch.randn(1280)
    adapter, _ = load_adapter(
        save(tmp_path / "a.pth", released(1280) | {"masked_embedding": row.reshape(shape)}), decoder
    )
    assert torch.equal(torch.cat([adapter.missing["facenet"], adapter.missing["synchformer"]]), row)


def test_a_masked_embedding_of_one_stream_is_that_ones_row(decoder, tmp_path):
    row = torch.randn(1, 512)
    adapter, _ = load_adapter(save(tmp_path / "a.pth", released(1280) | {"masked_embedding": row}), decoder)
    assert torch.equal(adapter.missing["facenet"], row[0]) and not adapter.missing["synchformer"].any()
    with pytest.raises(WeightsError, match=r"'masked_embedding' has shape \[7\]"):
        load_adapter(save(tmp_path / "a.pth", released(1280) | {"masked_embedding": torch.zeros(7)}), decoder)


def test_an_unknown_width_says_how_to_name_its_streams_and_then_loads(decoder, tmp_path):
    path = save(tmp_path / "own.pth", released(20))
    with pytest.raises(WeightsError, match="takes 20 numbers") as caught:
        load_adapter(path, decoder)
    assert "own.pth.json" in caught.value.remedy and '"width": 20' in caught.value.remedy
    streams = [{"name": "marlin", "width": 12}, {"name": "sway", "width": 8}]
    (tmp_path / "own.pth.json").write_text(json.dumps({"streams": streams}))
    adapter, digest = load_adapter(path, decoder)
    assert adapter.config.streams == (StreamSpec.numbered("marlin", 12), StreamSpec.numbered("sway", 8))
    (tmp_path / "own.pth.json").write_text(json.dumps({"streams": streams[::-1]}))
    assert load_adapter(path, decoder)[1] != digest


def test_a_file_beside_it_overrules_the_known_width(decoder, tmp_path):
    path = save(tmp_path / "face.pth", released(768))
    (tmp_path / "face.pth.json").write_text('{"streams": [{"name": "marlin", "width": 768}]}')
    assert [spec.name for spec in load_adapter(path, decoder)[0].config.streams] == ["marlin"]


@pytest.mark.parametrize(
    "said",
    [
        '{"streams": [{"name": "a", "width": 7}]}',
        '{"streams": [{"name": "a", "width": 10}, {"name": "a", "width": 10}]}',
        '{"streams": [{"name": "a.b", "width": 20}]}',
        '{"streams": [{"width": 20}]}',
        '{"streams": 20}',
        "{}",
        "[]",
        "no json",
    ],
)
def test_streams_that_do_not_add_up_are_an_error_in_the_file_beside_it(decoder, tmp_path, said):
    path = save(tmp_path / "own.pth", released(20))
    (tmp_path / "own.pth.json").write_text(said)
    with pytest.raises(WeightsError, match="own.pth.json"):
        load_adapter(path, decoder)


@pytest.mark.parametrize(
    ("damage", "wanted"),
    [
        (lambda t: t.pop("pos_emb"), "'pos_emb' is missing"),
        (lambda t: t.pop("ld_proj.weight"), r"'ld_proj\.weight' is missing"),
        (lambda t: t.pop("gates"), "'gates' is missing"),
        (lambda t: t.pop("merge_linear.1.weight"), r"'merge_linear\.1\.weight' is missing"),
        (lambda t: t.update(surprise=torch.zeros(1)), "'surprise' is not part"),
        (lambda t: t.update(gates=torch.zeros(3)), r"'gates' has shape \[3\], expected \[2\]"),
        (lambda t: t.update(pos_emb=torch.zeros(3, 25)), r"'pos_emb' has shape \[3, 25\], expected \[N \+ 1, steps"),
        (lambda t: t.update(pos_emb=torch.zeros(1, 25, 32)), "expected more rows"),
        (lambda t: t.update({"merge_linear.0.weight": torch.zeros(32, 5)}), r"shape \[32, 5\], expected \[32, 6\]"),
        (lambda t: t["ld_proj.weight"].fill_(torch.nan), r"'ld_proj\.weight' holds NaN"),
        (lambda t: t.update(gates="open"), "'gates' is a str, expected a tensor"),
    ],
)
def test_a_damaged_file_names_the_tensor_and_what_was_expected(decoder, tmp_path, damage, wanted):
    tensors = released()
    damage(tensors)
    with pytest.raises(WeightsError, match=wanted) as caught:
        load_adapter(save(tmp_path / "motion.pth", tensors), decoder)
    assert str(tmp_path / "motion.pth") in str(caught.value) and caught.value.exit_code == 4


def test_a_truncated_file_is_named(decoder, tmp_path):
    path = save(tmp_path / "motion.pth", released())
    path.write_bytes(path.read_bytes()[:5000])
    with pytest.raises(WeightsError, match=r"motion\.pth.*damaged"):
        load_adapter(path, decoder)


def test_a_file_that_would_run_code_is_refused_and_runs_nothing(decoder, tmp_path):
    marker = tmp_path / "it-ran"

    class Runs:
        def __reduce__(self):
            return os.system, (f"touch {marker}",)

    with pytest.raises(WeightsError, match=r"would run (posix|nt)\.system"):
        load_adapter(save(tmp_path / "motion.pth", released() | {"gates": Runs()}), decoder)
    assert not marker.exists()


def test_a_file_for_another_width_or_more_layers_is_refused(decoder, tmp_path):
    wide = released() | {"pos_emb": torch.zeros(3, 25, 64)}
    deep = released(num_layers=5)
    for tensors, wanted in ((wide, "width 64 with at least 2"), (deep, "width 32 with at least 5")):
        with pytest.raises(WeightsError, match=wanted):
            load_adapter(save(tmp_path / "motion.pth", tensors), decoder)


def test_nothing_at_the_path_is_an_error_that_says_so(tiny_folder, tmp_path):
    with pytest.raises(WeightsError, match="There is no adapter at this path"):
        load_model(str(tiny_folder), device="cpu", adapter=tmp_path / "nowhere.pth")


def test_an_embedding_reaches_the_adapter_as_it_comes():
    class Steps:
        num_steps = 4

        def step_times(self):
            return np.arange(4) / 5.0

    seen = Seen(768)
    found = condition({"synchformer": seen}, Steps(), [StreamSpec.numbered("synchformer", 768)])["synchformer"]
    assert np.abs(found.values - seen.values[:4]).max() < 1e-5 and np.abs(found.values).max() > 2
    with pytest.raises(UnknownNameError, match="reads 768 numbers of synchformer, this stream has 512"):
        condition({"synchformer": Seen(512)}, Steps(), [StreamSpec.numbered("synchformer", 768)])
