from fractions import Fraction

import av
import numpy as np
import pytest

from expotion_cli.media import decode
from expotion_cli.media.decode import Damage, iter_frames, iter_views
from expotion_cli.media.frames import View
from expotion_cli.media.painter import HLG, PQ, to_standard_range
from expotion_cli.media.probe import probe

GREY = View(max_height=60, grey=True)
GRID = View(rate_hz=Fraction(5), short_side=90)


def split(clip, views, damage=None):
    """Frames by view."""
    found = [[] for _ in views]
    for number, frame in iter_views(clip, views, damage=damage):
        found[number].append(frame)
    return found


def test_one_pass_gives_every_view_what_it_would_get_alone(clip, monkeypatch):
    info, views = probe(clip("ntsc.mp4")), (GREY, View(max_side=160), GRID)
    alone = [split(info, (view,))[0] for view in views]
    opened = []
    real = decode.open_container
    monkeypatch.setattr(decode, "open_container", lambda path, **options: opened.append(path) or real(path, **options))
    together = split(info, views)
    assert len(opened) == 1
    for one, other in zip(alone, together, strict=True):
        assert [frame.time_s for frame in one] == [frame.time_s for frame in other]
        assert all(np.array_equal(a.pixels, b.pixels) for a, b in zip(one, other, strict=True))
    assert [frames[0].pixels.shape for frames in together] == [(60, 107), (90, 160, 3), (90, 160, 3)]
    assert [len(frames) for frames in together] == [60, 60, 11]


def test_views_of_a_turned_clip_are_measured_upright(clip):
    grey, grid = split(clip("turned-90.mp4"), (GREY, GRID))
    assert grey[0].pixels.shape == (60, 34) and grid[0].pixels.shape == (160, 90, 3)
    plain, _ = split(clip("ntsc.mp4"), (View(max_height=34, grey=True), GRID))
    assert np.corrcoef(np.rot90(plain[0].pixels).ravel(), grey[0].pixels.ravel())[0, 1] > 0.98


@pytest.mark.parametrize(
    ("view", "size", "wanted"),
    [
        (View(), (7680, 4320), (7680, 4320)),
        (View(max_side=640), (7680, 4320), (640, 360)),
        (View(max_side=640), (320, 200), (320, 200)),
        (View(max_height=120, min_side=16), (1080, 1920), (68, 120)),
        (View(max_height=120, min_side=16), (1, 1), (16, 16)),
        (View(max_side=640), (10_000, 2), (640, 1)),
        (View(short_side=256), (1920, 1080), (455, 256)),
        (View(short_side=256), (96, 128), (256, 341)),
    ],
)
def test_sizes_keep_the_aspect(view, size, wanted):
    assert view.size_of(*size) == wanted


def test_pictures_closer_than_the_highest_rate_are_left_out(clip):
    times = [frame.time_s for frame in split(clip("ntsc.mp4"), (View(max_rate_hz=Fraction(12)),))[0]]
    assert len(times) == 20 and np.diff(times).min() >= 1 / 12


def test_interlaced_frames_give_one_moment(run_ffmpeg, tmp_path):
    """A bar that runs sideways shows as a comb where both fields are mixed."""
    bar = "color=c=black:size=320x240:rate=50:duration=1,format=yuv420p,drawbox=x=0:y=0:w=1:h=1:c=black"
    running = f"{bar},geq=lum='if(between(X,mod(N*6,280),mod(N*6,280)+40),235,16)':cb=128:cr=128"
    woven = tmp_path / "woven.mp4"
    interlaced = ["-flags", "+ildct+ilme", "-x264-params", "tff=1", "-preset", "ultrafast", "-crf", "12"]
    run_ffmpeg("-f", "lavfi", "-i", f"{running},interlace=lowpass=off", "-c:v", "libx264", *interlaced, woven)
    with av.open(str(woven)) as container:
        stored = list(container.decode(video=0))
        assert all(frame.interlaced_frame for frame in stored)
        mixed = stored[5].to_ndarray(format="gray").astype(int)
    shown = list(iter_frames(woven))[5].pixels[..., 1].astype(int)
    assert shown.shape == (240, 320)

    def comb(picture):
        return np.abs(picture[1:-1] - (picture[:-2] + picture[2:]) / 2).mean()

    assert comb(mixed) > 3 and comb(shown) < 0.3
    assert len(list(iter_frames(woven))) == 25


@pytest.mark.parametrize(("transfer", "name", "grey"), [(PQ, "smpte2084", 171), (HLG, "arib-std-b67", 125)])
def test_hdr_is_brought_to_ordinary_brightness(run_ffmpeg, tmp_path, transfer, name, grey):
    """Half of the code range is 92 nits in ST 2084 and 51 nits in B67; 203 nits are white."""
    path = tmp_path / f"{name}.mkv"
    colours = f"format=yuv420p10le,setparams=color_trc={name}:color_primaries=bt2020:colorspace=bt2020nc"
    source = f"color=c=gray:size=160x120:rate=25:duration=0.4,{colours}"
    run_ffmpeg("-f", "lavfi", "-i", source, "-c:v", "ffv1", path)
    frames = [frame.pixels for frame in iter_frames(path)]
    assert len(frames) == 10 and frames[0].dtype == np.uint8
    assert np.abs(frames[0].astype(int) - grey).max() <= 8  # ffmpeg's own grey is a little purple in 10 bits
    ramp = np.repeat(np.linspace(0, 65535, 64).astype(np.uint16)[None, :, None], 3, axis=2)
    shown = to_standard_range(ramp, transfer).astype(int)
    assert shown[0, 0, 0] == 0 and shown[0, -1, 0] == 255 and (np.diff(shown[0, :, 1]) >= 0).all()
    assert np.ptp(shown, axis=2).max() <= 1  # grey stays grey


def test_hdr_colours_become_stronger_in_the_smaller_gamut():
    reddish = np.array([[[36_000, 26_000, 26_000]]], np.uint16)
    wide, narrow = (to_standard_range(reddish, PQ, wide=wide)[0, 0].astype(int) for wide in (True, False))
    assert wide[0] - wide[1] > narrow[0] - narrow[1] > 20


def test_a_broken_picture_in_the_middle_is_skipped_and_told(run_ffmpeg, tmp_path):
    path = tmp_path / "whole.avi"
    run_ffmpeg("-f", "lavfi", "-i", "testsrc2=size=160x120:rate=25:duration=2", "-c:v", "mjpeg", path)
    with av.open(str(path)) as container:
        packets = [packet for packet in container.demux(video=0) if packet.size]
        place = packets[20].pos
    content = bytearray(path.read_bytes())
    content[place + 16 : place + packets[20].size - 16] = b"\xff" * (packets[20].size - 32)
    broken = tmp_path / "broken.avi"
    broken.write_bytes(content)
    damage = Damage()
    own, grid = split(broken, (View(), View(rate_hz=Fraction(25))), damage)
    assert damage.skipped == 1 and damage.first_s == pytest.approx(0.8, abs=0.05)
    assert len(own) == 49 and len(grid) == 50
    assert np.array_equal(grid[20].pixels, grid[19].pixels)  # the frame before stays on the screen
    untouched = Damage()
    split(path, (GREY,), untouched)
    assert untouched.skipped == 0 and untouched.first_s is None
