"""Folders and lists are read by stated rules; what belongs to no clip is named."""

from __future__ import annotations

import json

import numpy as np
import pytest
import torch
from tiny_music import song, write_wav

from expotion_cli.errors import ClipError, UsageError
from expotion_cli.training.data.arrays import read_features, read_tokens
from expotion_cli.training.data.listing import find_clips


def by_name(listing):
    return {clip.name: clip for clip in listing.clips}


def test_videos_sounds_and_words_of_one_stem_belong_together(tmp_path, make_video):
    make_video(tmp_path / "ann" / "own.mp4")
    make_video(tmp_path / "ann" / "pair.mp4", sound=False)
    write_wav(tmp_path / "ann" / "pair.wav", song(0, 1.0))
    write_wav(tmp_path / "bob" / "alone.wav", song(1, 1.0))
    (tmp_path / "ann" / "pair.txt").write_text("quiet\n guitar ")
    (tmp_path / "bob" / "alone.json").write_text(json.dumps({"caption": "loud drums", "track": "t1", "person": "carl"}))
    (tmp_path / "bob" / "notes.md").write_text("no clip")
    found = by_name(find_clips(tmp_path))
    assert set(found) == {"ann/own", "ann/pair", "bob/alone"}
    own, pair, alone = (found[name] for name in sorted(found))
    assert own.video == own.music and pair.video.name == "pair.mp4" and pair.music.name == "pair.wav"
    assert alone.video is None and alone.caption == "loud drums" and alone.track == "t1" and alone.person == "carl"
    assert pair.caption == "quiet guitar" and pair.person == "ann"


def test_a_video_without_music_is_named_and_the_rest_goes_on(tmp_path, make_video):
    make_video(tmp_path / "mute.mp4", sound=False)
    write_wav(tmp_path / "fine.wav", song(0, 1.0))
    write_wav(tmp_path / "twin.wav", song(1, 1.0))
    write_wav(tmp_path / "twin.aif", song(1, 1.0))
    found = find_clips(tmp_path)
    assert list(by_name(found)) == ["fine"]
    mute, twin = found.problems
    assert "no music" in str(mute) and mute.path.name == "mute.mp4" and "have the same name" in str(twin)


def test_captions_of_a_table_are_found_by_stem_path_or_file_and_nearer_ones_win(tmp_path):
    for name in ("a", "sub/b", "sub/c", "other/d"):
        write_wav(tmp_path / f"{name}.wav", song(0, 1.0))
    table = {"a": "first", "sub/b": {"caption": "second", "track": "x"}, "c.wav": "third", "d": "above"}
    (tmp_path / "captions.json").write_text(json.dumps(table))
    (tmp_path / "other" / "captions.json").write_text(json.dumps({"d": "near"}))
    found = by_name(find_clips(tmp_path, caption="{stem} of {folder}"))
    assert [found[n].caption for n in ("a", "sub/b", "sub/c", "other/d")] == ["first", "second", "third", "near"]
    assert found["sub/b"].track == "x"
    (tmp_path / "captions.json").unlink()
    assert by_name(find_clips(tmp_path, caption="{stem} of {folder}"))["sub/c"].caption == "c of sub"


def test_one_folder_alone_tells_no_person(tmp_path):
    write_wav(tmp_path / "takes" / "a.wav", song(0, 1.0))
    write_wav(tmp_path / "b.wav", song(0, 1.0))
    assert {clip.person for clip in find_clips(tmp_path).clips} == {""}


def test_hidden_files_and_the_data_folder_inside_are_not_searched(tmp_path):
    for name in ("a", ".hidden", "data/b", ".git/c"):
        write_wav(tmp_path / f"{name}.wav", song(0, 1.0))
    assert list(by_name(find_clips(tmp_path, out=tmp_path / "data"))) == ["a"]


@pytest.mark.parametrize("template", ["{title}", "{", "{stem.__class__}"])
def test_a_template_with_unknown_fields_is_refused(tmp_path, template):
    with pytest.raises(UsageError, match="--caption"):
        find_clips(tmp_path, caption=template)


def test_nothing_to_learn_from_is_an_error(tmp_path):
    with pytest.raises(UsageError, match="holds no clips"):
        find_clips(tmp_path)
    with pytest.raises(UsageError, match="no such"):
        find_clips(tmp_path / "absent")
    (tmp_path / "captions.json").write_text("[1]")
    write_wav(tmp_path / "a.wav", song(0, 1.0))
    with pytest.raises(UsageError, match="not hold a JSON object"):
        find_clips(tmp_path)


def test_the_authors_lists_are_read_as_literals(tmp_path):
    lines = [
        "# comment",
        "f/one.pt|t/one.npy|{'audio_id': 'song 1', 'caption': 'slow | sad', 'person': 'p'}",
        "|t/two.npy|{'audio_id': 7}",
        "f/three.pt|t/three.npy|__import__('os').system('true')",
        "f/four.pt|t/four.npy",
        "f/five.pt|t/five.npy|['no', 'dict']",
        "f/again.pt|t/one.npy|{'audio_id': 'song 1'}",
    ]
    path = tmp_path / "train.txt"
    path.write_text("\n".join(lines))
    found = find_clips(path, caption="music")
    one, two, again = found.clips
    assert (one.name, one.track, one.caption, one.person) == ("one", "song 1", "slow | sad", "p")
    assert one.features == tmp_path / "f" / "one.pt" and one.tokens == tmp_path / "t" / "one.npy"
    assert two.features is None and two.caption == "music" and two.track == "7" and again.name != one.name
    assert [str(p).split(": ")[1] for p in found.problems] == ["line 4", "line 5", "line 6"]
    assert find_clips(path, root=tmp_path / "r").clips[0].tokens == tmp_path / "r" / "t" / "one.npy"


def test_features_and_tokens_are_read_in_both_kinds_of_files(tmp_path):
    values = np.random.default_rng(0).normal(size=(50, 256)).astype(np.float32)
    torch.save(torch.from_numpy(values)[None].to(torch.bfloat16), tmp_path / "a.pt")
    np.save(tmp_path / "a.npy", values.astype(np.float64))
    assert np.allclose(read_features(tmp_path / "a.pt"), values, atol=0.05)
    assert np.array_equal(read_features(tmp_path / "a.npy"), values)
    tokens = np.random.default_rng(0).integers(0, 2048, (4, 500))
    np.save(tmp_path / "t.npy", tokens)
    read = read_tokens(tmp_path / "t.npy", 2048)
    assert np.array_equal(read, tokens) and read.dtype == np.int16


def test_wrong_arrays_are_named_and_no_pickle_is_opened(tmp_path):
    class Evil:
        def __reduce__(self):
            return (open, (str(tmp_path / "ran"), "w"))

    torch.save({"x": Evil()}, tmp_path / "evil.pt")
    np.save(tmp_path / "evil.npy", np.array([Evil()], dtype=object), allow_pickle=True)
    np.save(tmp_path / "nan.npy", np.full((5, 4), np.nan))
    np.save(tmp_path / "flat.npy", np.zeros(5))
    (tmp_path / "cut.npy").write_bytes((tmp_path / "nan.npy").read_bytes()[:90])
    unread, nan = "can't be read", "hold NaN"
    for name, said in {
        "evil.pt": unread, "evil.npy": unread, "nan.npy": nan, "flat.npy": r"of shape \[5\]", "cut.npy": unread,
        "absent.pt": "no such file",
    }.items():  # fmt: skip
        with pytest.raises(ClipError, match=said) as caught:
            read_features(tmp_path / name)
        assert caught.value.path.name == name
    assert not (tmp_path / "ran").exists()
    np.save(tmp_path / "large.npy", np.full((4, 60), 2048))
    with pytest.raises(ClipError, match="0 to 2047"):
        read_tokens(tmp_path / "large.npy", 2048)
