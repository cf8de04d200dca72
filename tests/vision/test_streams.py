import pytest

from expotion_cli.errors import UnknownNameError
from expotion_cli.media.decode import iter_frames
from expotion_cli.timing import exact, num_rows
from expotion_cli.vision import face, flow, pose, streams
from expotion_cli.vision.encoder import REGISTRY, Encoder, encoder_class

SUMMARY = {
    "face": ("valence", "arousal", "expression_speed", "head_speed", "head_accent", "presence"),
    "pose": ("energy", "energy_left", "energy_right", "energy_head", "accent", "hands_height", "openness", "presence"),
    "flow": ("energy", "accent", "energy_left", "energy_right", "presence"),
}


@pytest.mark.parametrize("module", [face, pose, flow])
def test_every_dimension_is_named_once_and_documented(module):
    names = [dim.name for dim in module.DIMS]
    assert len(set(names)) == len(names)
    assert all(dim.unit and len(dim.about) > 8 for dim in module.DIMS)


@pytest.mark.parametrize("name", sorted(REGISTRY))
def test_every_registered_encoder_keeps_the_protocol(name):
    encoder = encoder_class(name)()
    assert isinstance(encoder, Encoder) and encoder.name == name and 0 < encoder.rate_hz <= 30
    assert set(encoder.identity()) >= {"name", "version", "rate_hz"}


@pytest.mark.parametrize("name", SUMMARY)
def test_the_embedded_encoders_have_their_summary_at_25_hz(name):
    encoder = encoder_class(name)()
    assert encoder.rate_hz == 25.0 and set(SUMMARY[name]) <= set(encoder.dims)


def test_an_unknown_stream_is_an_error_that_names_the_known_ones(moving_patch):
    with pytest.raises(UnknownNameError, match="face, pose, flow"):
        streams.encode_clip(moving_patch(160, 120, 0.2), ["faces"])
    stream = streams.encode_clip(moving_patch(160, 120, 0.2), ["flow"])["flow"]
    with pytest.raises(UnknownNameError, match="no dimension"):
        stream.dim("nothing")


@pytest.mark.parametrize(("duration_s", "fps"), [(0.2, 25), (1.0, 30), (0.5, 10), (1.0, 60)])
def test_rows_fill_the_clip_at_25_a_second_whatever_its_rate(moving_patch, duration_s, fps):
    seen = []
    stream = streams.encode_clip(moving_patch(160, 120, duration_s, fps=fps), ["flow"], on_progress=seen.append)["flow"]
    assert len(stream.values) == len(stream.mask) == num_rows(exact(duration_s), exact(25))
    assert seen == sorted(seen) and seen[-1] == 1.0


def test_pictures_shown_twice_are_one_picture_shown_longer(make_clip, moving_patch):
    """12.5 frames a second in a file of 25: speeds must not fall to zero on every second row."""
    frames = [frame.pixels for frame in iter_frames(moving_patch(160, 60, 1.0, fps=25))]
    doubled = make_clip(lambda time_s: frames[round(time_s * 25) // 2 * 2], 1.0, name="doubled.mp4")
    energy = streams.encode_clip(doubled, ["flow"])["flow"].dim("energy")
    assert 0.7 < energy[12:24:2].mean() / energy[13:24:2].mean() < 1.4
