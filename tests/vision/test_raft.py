"""RAFT's features and flow, with random weights: its rows, its sums, and that it is torchvision's own network."""

from __future__ import annotations

from fractions import Fraction

import numpy as np
import pytest
import torch

from expotion_cli.errors import MissingLibraryError, UsageError, WeightsError
from expotion_cli.media.frames import Frame
from expotion_cli.timing import num_rows
from expotion_cli.vision import networks, raft
from expotion_cli.vision.encoder import StreamSource
from expotion_cli.vision.raft import RaftEncoder, RaftFlowEncoder, summarise_flow
from expotion_cli.vision.raft_model import RaftNetwork, fit, load_raft
from expotion_cli.vision.streams import available_encoders, encode_clip


@pytest.fixture(scope="module")
def weights(tmp_path_factory):
    """A file in the published layout."""
    from torchvision.models.optical_flow import raft_large

    torch.manual_seed(0)
    path = tmp_path_factory.mktemp("raft") / "raft.pth"
    torch.save(raft_large(weights=None, progress=False).state_dict(), path)
    yield path
    networks.release()


def frames(count: int, height: int = 128, width: int = 160, seed: int = 0) -> list[np.ndarray]:
    """Random smooth frames."""
    coarse = np.random.default_rng(seed).integers(0, 256, (count, height // 8, width // 8, 3), dtype=np.uint8)
    return list(coarse.repeat(8, axis=1).repeat(8, axis=2))


def sources(path, *names: str, **settings) -> list[StreamSource]:
    return [StreamSource(name, {"weights": path, "device": "cpu", **settings}) for name in names]


def test_flow_and_features_are_those_of_torchvisions_own_forward_pass(weights):
    module = load_raft(weights)
    before, after = frames(2)
    network = RaftNetwork(module)
    tensors = [torch.from_numpy(p).permute(2, 0, 1)[None].float() / 127.5 - 1 for p in (before, after)]
    with torch.inference_mode():
        wanted = module(*tensors, num_flow_updates=3)[-1][0].permute(1, 2, 0).numpy()
        features = module.feature_encoder(tensors[0]).mean(dim=(0, 2, 3)).numpy()
    assert np.allclose(network.flow(before, after, updates=3), wanted, atol=1e-3 * np.abs(wanted).max())
    assert network.summary(before) == pytest.approx(features, abs=1e-5) and features.std() > 0


def test_sides_are_cut_to_whole_cells_and_to_the_longest_that_fits():
    picture = np.arange(261 * 1000 * 3, dtype=np.uint8).reshape(261, 1000, 3)
    assert np.array_equal(fit(picture), picture[2:258, 180:820])


@pytest.mark.long
@pytest.mark.parametrize(("duration_s", "fps"), [(0.3, 25), (0.7, 30), (0.5, 60)])
def test_both_streams_fill_the_clip_at_their_rate(weights, moving_patch, duration_s, fps):
    clip = moving_patch(160, 120, duration_s, fps=fps)
    found = encode_clip(clip, sources(weights, "raft", "raft-flow"))
    rows = num_rows(Fraction(str(duration_s)), Fraction(5))
    for stream in found.values():
        assert stream.rate_hz == 5 and len(stream.values) == rows and stream.mask.all()
        assert np.isfinite(stream.values).all()
    assert found["raft"].dims == tuple(map(str, range(256))) and found["raft-flow"].dim("presence").all()


@pytest.mark.slow
def test_a_picture_is_summed_up_the_same_whoever_else_asks(weights, moving_patch):
    clip = moving_patch(160, 120, 0.5)
    alone = encode_clip(clip, sources(weights, "raft"))["raft"]
    shared = encode_clip(clip, sources(weights, "raft", "raft-flow"))["raft"]
    again = encode_clip(clip, sources(weights, "raft"))["raft"]
    assert np.array_equal(alone.values, shared.values) and np.array_equal(alone.values, again.values)
    assert alone.digest == again.digest


@pytest.mark.slow
def test_a_still_clip_does_not_move(weights, make_clip):
    wall = frames(1, 240, 320)[0]
    stream = encode_clip(make_clip(lambda _: wall, 0.6), sources(weights, "raft-flow"))["raft-flow"]
    encoder = RaftFlowEncoder(weights=weights, device="cpu")
    encoder.begin()
    for number in range(3):
        encoder.feed(Frame(number / 5, wall))
    values, _ = encoder.finish(Fraction(3, 5))
    assert not values[:, :-1].any() and stream.values.shape == (3, len(raft.DIMS))


def test_sums_say_where_and_whither_things_move():
    flow = np.zeros((96, 128, 2), dtype=np.float32)
    flow[30:60, 10:50] = (6, -3)  # pixels right and down, in the left half
    dims = [dim.name for dim in raft.DIMS]
    told = dict(zip(dims, summarise_flow(flow, 0.2)[: len(dims) - 2], strict=False))
    assert told["energy_left"] > 0 and told["energy_right"] == 0 and told["area"] == pytest.approx(1200 / 12288)
    assert told["motion_x"] > 0 and told["motion_y"] > 0, "up is positive"
    assert told["cell_1_0"] > told["cell_0_3"] == 0
    moved = np.hypot(6, 3) / (96 * 0.2) - raft.NOISE
    assert told["energy"] == pytest.approx(moved * 1200 / 12288, rel=1e-4)
    assert told["camera_x"] == told["camera_y"] == 0


def test_a_pan_of_the_camera_is_taken_off():
    flow = np.broadcast_to(np.float32([4, 0]), (96, 128, 2))
    dims = [dim.name for dim in raft.DIMS]
    told = dict(zip(dims, summarise_flow(flow, 0.2)[: len(dims) - 2], strict=False))
    assert told["energy"] == 0 and told["camera_x"] == pytest.approx(4 / (96 * 0.2))


def test_without_weights_it_names_the_command_that_fetches_them(moving_patch):
    for name in ("raft", "raft-flow"):
        reason = available_encoders()[name]
        assert "expotion fetch raft" in reason and "21.1 MB" in reason
        with pytest.raises(MissingLibraryError, match="expotion fetch raft"):
            encode_clip(moving_patch(160, 120, 0.2), [name])


def test_another_networks_file_is_refused_with_the_names_it_lacks(tmp_path):
    torch.save({"feature_encoder.convnormrelu.0.weight": torch.zeros(1)}, tmp_path / "other.pth")
    with pytest.raises(WeightsError, match="Missing tensors: .*more"):
        load_raft(tmp_path / "other.pth")


@pytest.mark.parametrize("settings", [{"rate_hz": 0}, {"rate_hz": 31}, {"updates": 0}, {"dtype": "int8"}])
def test_settings_out_of_range_are_refused(settings):
    (name,) = settings
    with pytest.raises(UsageError, match=f"{name}|{settings[name]}"):
        RaftFlowEncoder(**settings)


def test_settings_and_weights_are_in_the_identity(weights):
    plain = RaftFlowEncoder(weights=weights, device="cpu").identity()
    assert plain != RaftFlowEncoder(weights=weights, device="cpu", updates=6).identity()
    assert plain != RaftFlowEncoder(weights=weights, device="cpu", rate_hz=10).identity()
    assert RaftEncoder(weights=weights, device="cpu").identity()["weights"].startswith("sha256 ")
