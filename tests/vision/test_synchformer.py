"""Synchformer's visual encoder: its published layout, its arithmetic, its rows; all with random weights."""

from __future__ import annotations

import argparse
import functools
import tracemalloc
from fractions import Fraction

import numpy as np
import pytest
import torch
from devices import NEEDS_CUDA

from expotion_cli import storage
from expotion_cli.errors import MissingLibraryError, UsageError, WeightsError
from expotion_cli.media.frames import Frame
from expotion_cli.music.transformer.adapter import StreamSpec
from expotion_cli.timing import exact, num_rows
from expotion_cli.vision import networks, synchformer, synchformer_model
from expotion_cli.vision.encoder import StreamSource
from expotion_cli.vision.streams import available_encoders, encode_clip
from expotion_cli.vision.synchformer import SIDE, SynchformerEncoder, at_rate
from expotion_cli.vision.synchformer_model import Sizes, VisualEncoder, load_encoder

# The tensors of the published `synchformer_state_dict.pth` (and of `model` in 24-01-04T16-39-21.pt) that are used here,
# after `vfeat_extractor.`; besides them stands `patch_embed.proj`, which the authors' forward pass leaves out too.
PUBLISHED = {
    "cls_token": (1, 1, 768),
    "pos_embed": (1, 197, 768),
    "temp_embed": (1, 8, 768),
    "patch_embed_3d.proj.weight": (768, 3, 2, 16, 16),
    "patch_embed_3d.proj.bias": (768,),
    "norm.weight": (768,),
    "norm.bias": (768,),
    "spatial_attn_agg.cls_token": (1, 1, 768),
    "spatial_attn_agg.self_attn.in_proj_weight": (2304, 768),
    "spatial_attn_agg.self_attn.in_proj_bias": (2304,),
    "spatial_attn_agg.self_attn.out_proj.weight": (768, 768),
    "spatial_attn_agg.self_attn.out_proj.bias": (768,),
    "spatial_attn_agg.linear1.weight": (3072, 768),
    "spatial_attn_agg.linear1.bias": (3072,),
    "spatial_attn_agg.linear2.weight": (768, 3072),
    "spatial_attn_agg.linear2.bias": (768,),
    "spatial_attn_agg.norm1.weight": (768,),
    "spatial_attn_agg.norm1.bias": (768,),
    "spatial_attn_agg.norm2.weight": (768,),
    "spatial_attn_agg.norm2.bias": (768,),
}
PUBLISHED_BLOCK = {
    "norm1.weight": (768,),
    "norm1.bias": (768,),
    "attn.qkv.weight": (2304, 768),
    "attn.qkv.bias": (2304,),
    "attn.proj.weight": (768, 768),
    "attn.proj.bias": (768,),
    "timeattn.qkv.weight": (2304, 768),
    "timeattn.qkv.bias": (2304,),
    "timeattn.proj.weight": (768, 768),
    "timeattn.proj.bias": (768,),
    "norm2.weight": (768,),
    "norm2.bias": (768,),
    "mlp.fc1.weight": (3072, 768),
    "mlp.fc1.bias": (3072,),
    "mlp.fc2.weight": (768, 3072),
    "mlp.fc2.bias": (768,),
    "norm3.weight": (768,),
    "norm3.bias": (768,),
}

TINY = Sizes(width=24, depth=2, heads=3, spread=2, side=12, patch=4, frames=6, tube=2)


def random_weights(sizes: Sizes, deviation: float = 0.3) -> dict[str, torch.Tensor]:
    """Weights under the encoder's own names, by default large enough that every part of it matters."""
    generator = torch.Generator().manual_seed(0)
    with torch.device("meta"):
        names = VisualEncoder(sizes).state_dict()
    return {
        name: deviation * torch.randn(own.shape, generator=generator) + (".weight" in name and "norm" in name)
        for name, own in names.items()
    }


def test_names_and_shapes_are_those_of_the_published_checkpoint():
    expected = PUBLISHED | {
        f"blocks.{number}.{name}": shape for number in range(12) for name, shape in PUBLISHED_BLOCK.items()
    }
    with torch.device("meta"):
        own = {name: tuple(tensor.shape) for name, tensor in VisualEncoder().state_dict().items()}
    assert own == expected


def plainly(weights: dict[str, torch.Tensor], frames: np.ndarray, sizes: Sizes) -> np.ndarray:
    """The published forward pass of one segment again, in numpy: every attention is one over all tokens with a mask."""
    w = {name: tensor.double().numpy() for name, tensor in weights.items()}

    def norm(x, name):
        centred = x - x.mean(-1, keepdims=True)
        return centred / np.sqrt((centred**2).mean(-1, keepdims=True) + 1e-6) * w[f"{name}.weight"] + w[f"{name}.bias"]

    def linear(x, name):
        return x @ w[f"{name}.weight"].T + w[f"{name}.bias"]

    def gelu(x):
        return torch.nn.functional.gelu(torch.from_numpy(x)).numpy()

    def attend(joined, allowed):
        wide = sizes.width // sizes.heads
        query, key, value = (part.reshape(len(joined), sizes.heads, wide) for part in np.split(joined, 3, axis=1))
        scores = np.einsum("ihd,jhd->hij", query, key) / np.sqrt(wide)
        scores = np.where(allowed, scores, -np.inf)
        shares = np.exp(scores - scores.max(-1, keepdims=True))
        shares /= shares.sum(-1, keepdims=True)
        return np.einsum("hij,jhd->ihd", shares, value).reshape(len(joined), -1)

    side = sizes.side // sizes.patch
    tokens = [w["cls_token"][0, 0] + w["pos_embed"][0, 0]]
    where = [(-1, -1)]
    for moment in range(sizes.moments):
        for place in range(side * side):
            y, x = divmod(place, side)
            tube = frames[
                moment * sizes.tube : (moment + 1) * sizes.tube,
                y * sizes.patch : (y + 1) * sizes.patch,
                x * sizes.patch : (x + 1) * sizes.patch,
            ]
            scaled = (tube / 255 - 0.5) / 0.5
            token = np.einsum("dctyx,tyxc->d", w["patch_embed_3d.proj.weight"], scaled) + w["patch_embed_3d.proj.bias"]
            tokens.append(token + w["pos_embed"][0, 1 + place] + w["temp_embed"][0, moment])
            where.append((moment, place))
    x, (moments, places) = np.stack(tokens), np.array(where).T
    first = np.arange(len(x)) == 0
    any_first = first[:, None] | first[None, :]
    same_place, same_moment = places[:, None] == places, moments[:, None] == moments
    for block in (f"blocks.{number}" for number in range(sizes.depth)):
        seen = attend(linear(norm(x, f"{block}.norm3"), f"{block}.timeattn.qkv"), any_first | same_place)
        x = x + linear(seen, f"{block}.timeattn.proj")
        seen = attend(linear(norm(x, f"{block}.norm1"), f"{block}.attn.qkv"), any_first | same_moment)
        x = x + linear(seen, f"{block}.attn.proj")
        x = x + linear(gelu(linear(norm(x, f"{block}.norm2"), f"{block}.mlp.fc1")), f"{block}.mlp.fc2")
    x = norm(x, "norm")
    rows = []
    gather = "spatial_attn_agg"
    w[f"{gather}.joined.weight"] = w[f"{gather}.self_attn.in_proj_weight"]
    w[f"{gather}.joined.bias"] = w[f"{gather}.self_attn.in_proj_bias"]
    for moment in range(sizes.moments):
        y = np.concatenate([w[f"{gather}.cls_token"][0], x[moments == moment]])
        seen = attend(linear(norm(y, f"{gather}.norm1"), f"{gather}.joined"), True)
        y = y + linear(seen, f"{gather}.self_attn.out_proj")
        y = y + linear(gelu(linear(norm(y, f"{gather}.norm2"), f"{gather}.linear1")), f"{gather}.linear2")
        rows.append(y[0])
    return np.stack(rows)


def test_the_network_computes_what_a_plain_statement_of_it_says(tmp_path):
    weights = random_weights(TINY)
    torch.save(weights, tmp_path / "tiny.pth")
    encoder = load_encoder(tmp_path / "tiny.pth", TINY)
    frames = np.random.default_rng(0).integers(0, 256, (3, 6, 12, 12, 3), dtype=np.uint8)
    with torch.inference_mode():
        rows = encoder(torch.from_numpy(frames)).numpy()
    expected = np.stack([plainly(weights, segment, TINY) for segment in frames])
    assert rows.shape == (3, 3, 24) and expected.std() > 0.1
    assert np.abs(rows - expected).max() < 2e-4 * np.abs(expected).max()


def whole_model(visual: dict[str, torch.Tensor], prefix: str = "vfeat_extractor.") -> dict[str, torch.Tensor]:
    """The rest of a checkpoint around the visual encoder, as the authors' model has it, with small tensors."""
    rest = {
        "afeat_extractor.ast.embeddings.cls_token": torch.zeros(1, 1, 24),
        "afeat_extractor.freq_attn_agg.cls_token": torch.ones(1, 1, 24),
        "vproj.weight": torch.zeros(24, 24),
        "aproj.weight": torch.zeros(24, 24),
        "transformer.OFF_tok": torch.zeros(1, 1, 24),
        "transformer.blocks.0.ln1.weight": torch.ones(24),
    }
    unused = {"patch_embed.proj.weight": torch.ones(24, 3, 4, 4), "patch_embed.proj.bias": torch.ones(24)}
    return rest | {prefix + name: tensor for name, tensor in (visual | unused).items()}


LAYOUTS = {
    "state dict": lambda visual: whole_model(visual),
    "checkpoint": lambda visual: {"model": whole_model(visual), "epoch": 60, "metrics": {"accuracy_1": 0.5}},
    "many devices": lambda visual: {"model": whole_model(visual, "module.vfeat_extractor.")},
    "first stage": lambda visual: {"state_dict": whole_model(visual, "module.v_encoder."), "name": "x"},
    "visual part": lambda visual: visual,
}


@pytest.mark.parametrize("layout", LAYOUTS)
def test_loading_picks_exactly_the_visual_part(layout, tmp_path):
    weights = random_weights(TINY)
    torch.save(LAYOUTS[layout](weights), tmp_path / "model.pt")
    encoder = load_encoder(tmp_path / "model.pt", TINY)
    assert not encoder.training and not any(parameter.requires_grad for parameter in encoder.parameters())
    loaded = encoder.state_dict()
    assert set(loaded) == set(weights)
    assert all(torch.equal(loaded[name], weights[name]) for name in weights)


def test_safetensors_and_half_numbers_load_too(tmp_path):
    from safetensors.torch import save_file

    weights = {name: tensor.half() for name, tensor in random_weights(TINY).items()}
    save_file({f"vfeat_extractor.{name}": tensor for name, tensor in weights.items()}, tmp_path / "model.safetensors")
    loaded = load_encoder(tmp_path / "model.safetensors", TINY).state_dict()
    assert all(
        tensor.dtype == torch.float32 and torch.equal(tensor, weights[n].float()) for n, tensor in loaded.items()
    )


def refused(tmp_path, content) -> str:
    path = tmp_path / "model.pth"
    torch.save(content, path)
    with pytest.raises(WeightsError) as caught:
        load_encoder(path, TINY, remedy="Fetch it again.")
    assert caught.value.path == path and caught.value.remedy == "Fetch it again."
    return str(caught.value)


def test_what_is_missing_foreign_or_of_another_shape_is_named_as_the_file_calls_it(tmp_path):
    weights = random_weights(TINY)
    lacking = {name: tensor for name, tensor in weights.items() if not name.startswith("blocks.1.timeattn")}
    said = refused(tmp_path, whole_model(lacking))
    assert "Missing" in said and "'vfeat_extractor.blocks.1.timeattn.qkv.weight' [72, 24]" in said
    assert "and 1 more" in said
    said = refused(tmp_path, {"model": whole_model(weights | {"temp_embed": torch.zeros(1, 4, 24)})})
    assert "'vfeat_extractor.temp_embed' is [1, 4, 24], expected [1, 3, 24]" in said
    said = refused(tmp_path, whole_model(weights | {"blocks.2.norm1.weight": torch.ones(24)}))
    assert "another network" in said and "vfeat_extractor.blocks.2.norm1.weight" in said
    said = refused(tmp_path, whole_model(weights | {"norm.bias": torch.full((24,), float("nan"))}))
    assert "'vfeat_extractor.norm.bias' holds NaN" in said
    said = refused(tmp_path, whole_model({}))
    assert "no visual encoder" in said
    assert "'vfeat_extractor.norm.bias' is a str" in refused(tmp_path, whole_model(weights | {"norm.bias": "none"}))
    assert "holds a list" in refused(tmp_path, [1, 2])


def test_files_that_name_code_or_are_damaged_are_not_read(tmp_path):
    said = refused(tmp_path, {"model": whole_model(random_weights(TINY)), "args": argparse.Namespace(lr=1)})
    assert "would run code" in said
    for content in (b"", b"no torch file", (tmp_path / "model.pth").read_bytes()[:1000]):
        (tmp_path / "broken.pth").write_bytes(content)
        with pytest.raises(WeightsError, match="broken.pth"):
            load_encoder(tmp_path / "broken.pth", TINY)
    with pytest.raises(WeightsError, match="nothing.pth"):
        load_encoder(tmp_path / "nothing.pth", TINY)


class Probe:
    """In place of the network: a row's first number is the brightness of its two frames, its second its place in the
    segment."""

    def __init__(self) -> None:
        self.segments: list[list[int]] = []

    def __call__(self, frames: torch.Tensor) -> torch.Tensor:
        assert frames.shape[1:] == (16, SIDE, SIDE, 3) and frames.dtype == torch.uint8
        levels = frames.float().mean(dim=(2, 3, 4))
        self.segments += levels.round().int().tolist()
        rows = torch.zeros(len(frames), 8, 768)
        rows[:, :, 0] = levels.view(-1, 8, 2).mean(dim=2)
        rows[:, :, 1] = torch.arange(8)
        return rows


@pytest.fixture
def probe(monkeypatch) -> Probe:
    found = Probe()
    monkeypatch.setattr(SynchformerEncoder, "_load", lambda self: found)
    monkeypatch.setattr(SynchformerEncoder, "unavailable", lambda self: None)
    networks.release()
    yield found
    networks.release()


def grey(number: int) -> Frame:
    return Frame(number / 25, np.broadcast_to(np.uint8(number % 256), (256, 300, 3)))


def rows_of(count: int, **settings) -> np.ndarray:
    return SynchformerEncoder(device="cpu", **settings).encode(map(grey, range(count)), Fraction(count, 25))


@pytest.mark.parametrize("stride", [2, 6, 8, 16])
@pytest.mark.parametrize("count", [1, 7, 8, 15, 16, 17, 18, 31, 32, 33, 41, 64])
def test_each_row_is_seen_from_its_own_two_pictures_whatever_the_stride(count, stride, probe):
    rows = rows_of(count, stride=stride)
    levels = [(min(i, count - 1) + min(i + 1, count - 1)) / 2 for i in range(0, count, 2)]
    assert rows.shape == (len(levels), 768)
    assert np.allclose(rows[:, 0], levels, atol=1e-3)


def test_segments_overlap_by_half_and_the_last_one_ends_with_the_clip(probe):
    rows_of(41)
    assert [segment[0] for segment in probe.segments] == [0, 8, 16, 24, 26]
    assert probe.segments[-1] == [*range(26, 41), 40]
    probe.segments.clear()
    rows_of(48, stride=16)
    assert [segment[0] for segment in probe.segments] == [0, 16, 32]


def test_of_a_clip_shorter_than_a_segment_the_last_picture_is_repeated(probe):
    rows = rows_of(8)
    assert probe.segments == [[*range(8), *[7] * 8]]
    assert len(rows) == 4, "rows past the clip are dropped"


def test_rows_of_the_same_moment_are_averaged(probe):
    places = rows_of(32)[:, 1]
    # of segments that begin with rows 0, 4 and 8, each sees its own rows as its places 0 to 7
    assert places.tolist() == [0, 1, 2, 3, 2, 3, 4, 5, 2, 3, 4, 5, 4, 5, 6, 7]
    assert rows_of(32, stride=16)[:, 1].tolist() == [*range(8), *range(8)]


@pytest.mark.parametrize(
    ("duration_s", "fps"), [(0.3, "30"), (0.64, "25"), (10.0, "25"), (2.0, "30000/1001"), (1.0, "60")]
)
def test_rows_fill_the_clip_at_12_5_a_second_whatever_its_rate(duration_s, fps, probe, make_video, tmp_path):
    from expotion_cli.media.probe import probe as look_into

    clip = make_video(tmp_path / "clip.mp4", duration_s=duration_s, fps=fps, sound=False)
    stream = encode_clip(clip, ["synchformer"])["synchformer"]
    assert stream.rate_hz == 12.5
    assert len(stream.values) == num_rows(look_into(clip).duration, Fraction(25, 2)) and stream.mask.all()
    assert StreamSpec.numbered("synchformer", 768).dims == stream.dims, "released adapters read it by position"


@pytest.mark.parametrize("rate_hz", [12.5, 5.0, 25.0])
def test_rows_stand_where_the_stream_says(rate_hz, probe, make_clip):
    clip = make_clip(lambda time_s: np.full((240, 320, 3), 40 + 50 * time_s, np.uint8), 4.0)
    stream = encode_clip(clip, [StreamSource("synchformer", {"rate_hz": rate_hz})])["synchformer"]
    assert len(stream.values) == 4 * rate_hz and stream.rate_hz == rate_hz
    expected = 40 + 50 * (np.arange(len(stream.values)) / rate_hz + 0.02)
    assert np.abs(stream.values[:, 0] - expected)[2:-2].max() < 1.5, "each 20 ms after its time"


def test_pictures_past_those_that_came_are_not_seen(probe):
    encoder = SynchformerEncoder(device="cpu")
    encoder.begin()
    for number in range(20):
        encoder.feed(grey(number))
    values, mask = encoder.finish(Fraction(2))
    assert mask.tolist() == [True] * 10 + [False] * 15 and np.isfinite(values).all()
    encoder.begin()
    values, mask = encoder.finish(Fraction(1))
    assert values.shape == (13, 768) and not mask.any() and not values.any()


def test_memory_does_not_grow_with_the_clip(probe):
    encoder = SynchformerEncoder(device="cpu")
    encoder.begin()
    tracemalloc.start()
    try:
        for number in range(500):  # 75 MB of frames, and 0.8 MB of rows
            encoder.feed(grey(number))
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    encoder.close()
    assert peak < 20e6


def test_a_second_clip_remembers_nothing_of_the_first(probe):
    encoder = SynchformerEncoder(device="cpu")
    first = encoder.encode(map(grey, range(30)), Fraction(30, 25))
    encoder.begin()
    encoder.feed(grey(200))
    encoder.close()  # in the middle of a clip
    again = encoder.encode(map(grey, range(30)), Fraction(30, 25))
    assert np.array_equal(first, again)


@pytest.fixture
def small_network(monkeypatch, tmp_path):
    """A file with a network of the published width that has one block."""
    sizes = functools.partial(Sizes, depth=1, spread=1)
    monkeypatch.setattr(synchformer_model, "Sizes", sizes)
    path = tmp_path / "small.pth"
    torch.save({f"vfeat_extractor.{name}": tensor for name, tensor in random_weights(sizes(), 0.05).items()}, path)
    networks.release()
    yield path
    networks.release()


@pytest.mark.slow
def test_streamed_rows_are_those_of_all_segments_at_once(small_network):
    generator = np.random.default_rng(1)
    frames = [Frame(i / 25, generator.integers(0, 256, (256, 340, 3), dtype=np.uint8)) for i in range(24)]
    rows = SynchformerEncoder(device="cpu", weights=small_network).encode(frames, Fraction(24, 25))
    middles = np.stack([frame.pixels[16:240, 58:282] for frame in frames])
    segments = np.stack([middles[start : start + 16] for start in (0, 8)])
    with torch.inference_mode():
        seen = load_encoder(small_network)(torch.from_numpy(segments)).numpy()
    expected = np.concatenate([seen[0, :4], (seen[0, 4:] + seen[1, :4]) / 2, seen[1, 4:]])
    assert np.abs(rows - expected).max() < 1e-3 * np.abs(expected).max()
    low = SynchformerEncoder(device="cpu", weights=small_network, dtype="bfloat16", stride=16)
    coarse = low.encode(frames[:16], Fraction(16, 25))
    assert coarse.dtype == np.float32
    alike = (coarse[:4] * seen[0, :4]).sum(1) / np.linalg.norm(coarse[:4], axis=1) / np.linalg.norm(seen[0, :4], axis=1)
    assert alike.min() > 0.99


@pytest.mark.gpu
@NEEDS_CUDA
def test_a_gpu_sees_what_the_cpu_sees(small_network):
    generator = np.random.default_rng(1)
    frames = [Frame(i / 25, generator.integers(0, 256, (256, 340, 3), dtype=np.uint8)) for i in range(150)]
    rows = [
        SynchformerEncoder(device=device, weights=small_network).encode(frames, Fraction(6))
        for device in ("cpu", "cuda")
    ]
    assert np.abs(rows[0] - rows[1]).max() < 1e-2 * np.abs(rows[0]).max()


def test_at_another_rate_rows_are_means_over_the_time_around_them():
    values = np.arange(10, dtype=np.float32)[:, None] * np.ones((1, 2), dtype=np.float32)
    assert np.array_equal(at_rate(values, 1.0, 10), values)
    assert np.allclose(at_rate(values, 0.4, 4)[:, 0], [0.75 / 1.75, 2.5, 5.0, 7.5]), "2.5 rows go into one"
    assert np.allclose(at_rate(values, 2.0, 6)[:, 0], [0, 0.5, 1, 1.5, 2, 2.5]), "one row goes into two"
    for rate, rows in ((0.08, 1), (0.37, 5), (1.7, 30)):
        assert np.allclose(at_rate(np.full((10, 1), 3.0, np.float32), rate, rows), 3)


def test_without_weights_it_says_which_command_fetches_them_and_how_large_they_are(moving_patch):
    reason = available_encoders()["synchformer"]
    assert "expotion fetch synchformer" in reason and "950.1 MB" in reason
    with pytest.raises(MissingLibraryError, match="expotion fetch synchformer"):
        encode_clip(moving_patch(160, 120, 0.2), ["synchformer"])
    with pytest.raises(WeightsError, match="expotion fetch synchformer"):
        SynchformerEncoder(device="cpu").begin()
    assert "no file" in SynchformerEncoder(weights="elsewhere.pth").unavailable()


def test_all_that_decides_the_rows_is_in_the_identity(small_network):
    plain = SynchformerEncoder(device="cpu").identity()
    assert plain["device"] == "cpu" and plain["stride"] == 8 and plain["rate_hz"] == 12.5
    assert plain["weights"] == "sha256 8aff082f2df5c3bc52759db0c865c7ee772ae6400b860d1b7e90413f2defb67c"
    settings = ({"stride": 16}, {"rate_hz": 5}, {"dtype": "bfloat16"}, {"weights": small_network})
    others = [SynchformerEncoder(**{"device": "cpu"} | setting).identity() for setting in settings]
    digests = {storage.digest_of(identity) for identity in (plain, *others)}
    assert len(digests) == 5
    before = others[-1]["weights"]
    torch.save({}, small_network)
    assert SynchformerEncoder(weights=small_network).identity()["weights"] != before


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"stride": 3}, "stride"),
        ({"stride": 18}, "stride"),
        ({"stride": 0}, "stride"),
        ({"rate_hz": 0}, "rate_hz"),
        ({"rate_hz": 26}, "rate_hz"),
        ({"dtype": "float8"}, "float8"),
    ],
)
def test_settings_out_of_range_are_refused_when_they_are_given(settings, said):
    with pytest.raises(UsageError, match=said):
        SynchformerEncoder(**settings)


def test_an_unknown_or_absent_device_is_named(monkeypatch):
    with pytest.raises(UsageError, match="gpu"):
        SynchformerEncoder(device="gpu").identity()
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    with pytest.raises(UsageError, match="no CUDA device"):
        SynchformerEncoder(device="cuda").identity()


def test_the_middle_of_the_picture_is_looked_at():
    pixels = np.zeros((256, 456, 3), np.uint8)
    pixels[16:240, 116:340] = 255
    assert synchformer.middle(pixels).min() == 255
    assert synchformer.middle(np.zeros((455, 256, 3), np.uint8)).shape == (224, 224, 3)
    assert exact(float(synchformer.OWN_RATE_HZ)) == Fraction(25, 2)
