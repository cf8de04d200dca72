"""Data are prepared once, resumably, from videos, music and ready lists; what is wrong is named and skipped."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
from fractions import Fraction

import numpy as np
import pytest
import torch
from tiny_music import RATE, song, write_wav

from expotion_cli.errors import OutputError, UsageError
from expotion_cli.music.codecs.encodec import EncodecCodec
from expotion_cli.music.transformer.adapter import StreamSpec
from expotion_cli.training.data.data_folder import DATA_FILE, ITEMS, DataFolder
from expotion_cli.training.data.prepare import PrepareOptions, prepare
from expotion_cli.training.data.splits import HELD_OUT, TRAIN
from expotion_cli.training.data.tokens import AudioTokenizer, find_model
from expotion_cli.vision.cache import EmbeddingCache


@pytest.fixture
def cache(tmp_path) -> EmbeddingCache:
    return EmbeddingCache(tmp_path / "embeddings")


def tokens_folder(tmp_path, count: int = 3, width: int = 256, seconds: float = 3.0):
    """A list of ready features and tokens, as the authors keep them."""
    rng = np.random.default_rng(0)
    lines = []
    for i in range(count):
        torch.save(torch.from_numpy(rng.normal(size=(round(5 * seconds), width))).float(), tmp_path / f"f{i}.pt")
        np.save(tmp_path / f"t{i}.npy", rng.integers(0, 2048, (4, round(50 * seconds))))
        lines.append(f"f{i}.pt|t{i}.npy|{{'audio_id': 'track {i // 2}', 'caption': 'music {i}'}}")
    path = tmp_path / "train.txt"
    path.write_text("\n".join(lines))
    return path


def test_music_becomes_the_tokens_of_the_models_own_codec(tokenizer, tmp_path, cache):
    write_wav(tmp_path / "in" / "a.wav", song(0, 3.01))
    made = prepare(tmp_path / "in", tmp_path / "out", tokenizer=tokenizer, cache=cache)
    (clip,) = made.clips
    item = DataFolder.open(tmp_path / "out").load(clip.digest)
    assert clip.num_steps == item.tokens.shape[1] == 151 and item.tokens.shape[0] == 2 and clip.has_sound
    codec = EncodecCodec(tokenizer.model, 2, "")
    heard = codec.decode(item.tokens.astype(np.int64), codec.timeline(Fraction(301, 100), None))
    assert heard.audio.shape[1] == round(3.01 * RATE) and len(np.unique(item.tokens)) > 10


def test_long_music_is_encoded_in_pieces_that_join(tokenizer, monkeypatch):
    """Judged by what the codes stand for: of two entries about equally near, processors choose either."""
    sound = song(1, 65.0)[:: 16_000 // RATE][None]
    in_pieces = tokenizer.encode(sound)
    monkeypatch.setattr("expotion_cli.training.data.tokens.PIECE_S", 1000)
    at_once = tokenizer.encode(sound)
    assert in_pieces.shape == at_once.shape == (2, 65 * 50)
    one, other = (meaning(tokenizer, codes) for codes in (in_pieces, at_once))
    chance = np.square(one - other[:, np.random.default_rng(0).permutation(65 * 50)]).sum(axis=0).mean()
    apart = np.square(one - other).sum(axis=0) / chance
    for border_s in (30, 60):
        assert apart[50 * border_s - 25 : 50 * border_s + 25].mean() < 0.05, "the codec hears what lies beyond a border"
    assert apart.mean() < 0.05 and apart[:50].mean() < 0.05 and apart[-50:].mean() < 0.05
    moved = np.square(one[:, 1:] - other[:, :-1]).sum(axis=0) / chance
    assert moved.mean() > 0.5, "a single step too late would be seen"


def meaning(tokenizer, codes: np.ndarray) -> np.ndarray:
    """[D, S]: the sum of the codebooks' entries that the codes name."""
    with torch.inference_mode():
        return tokenizer.model.quantizer.decode(torch.from_numpy(codes.astype(np.int64))[:, None])[0].cpu().numpy()


def test_stereo_streams_alternate(tokenizer):
    both = AudioTokenizer(tokenizer.model, 4, 2)
    left, right = song(2, 2.0)[:: 16_000 // RATE], song(3, 2.0)[:: 16_000 // RATE]
    tokens = both.encode(np.stack([left, right]))
    assert np.array_equal(tokens[0::2], tokenizer.encode(left[None]))
    assert np.array_equal(tokens[1::2], tokenizer.encode(right[None]))


def test_videos_bring_what_their_picture_shows(tokenizer, tmp_path, make_video, cache):
    make_video(tmp_path / "in" / "a.mp4", duration_s=2.0)
    options = PrepareOptions(streams=("flow",))
    made = prepare(tmp_path / "in", tmp_path / "out", tokenizer=tokenizer, options=options, cache=cache)
    (clip,) = made.clips
    data = DataFolder.open(tmp_path / "out")
    stream = data.load(clip.digest).streams["flow"]
    assert clip.streams == {"flow": 1.0} and stream.values.shape == (50, len(stream.dims)) and stream.rate_hz == 25
    assert data.streams["flow"]["clips"] == 1 and cache.info().by_encoder == {"flow": 1, "cuts": 1}


def test_a_broken_file_is_named_and_the_others_go_on(tokenizer, tmp_path, make_video, cache):
    folder = tmp_path / "in"
    make_video(folder / "mute.mp4", sound=False)
    make_video(folder / "pair.mp4", sound=False, duration_s=1.0)
    write_wav(folder / "pair.wav", song(0, 4.0))
    (folder / "broken.mp4").write_bytes(b"\0\0\0\x18ftypmp42" + b"nothing" * 40)
    (folder / "torn.mp3").write_bytes(b"ID3nothing")
    write_wav(folder / "short.wav", song(0, 0.4))
    write_wav(folder / "silent.wav", np.zeros(32_000))
    write_wav(folder / "good.wav", song(0, 2.0))
    made = prepare(
        folder, tmp_path / "out", tokenizer=tokenizer, options=PrepareOptions(streams=("flow",)), cache=cache
    )
    assert [clip.name for clip in made.clips] == ["good"]
    said = {problem.path.name: str(problem) for problem in made.problems}
    assert set(said) == {"mute.mp4", "pair.mp4", "broken.mp4", "torn.mp3", "short.wav", "silent.wav"}
    assert "no music" in said["mute.mp4"] and "no music" not in said["broken.mp4"]
    assert "4.00 s long, its picture 1.00 s" in said["pair.mp4"] and "0.40 s" in said["short.wav"]
    listed = json.loads((tmp_path / "out" / DATA_FILE).read_text())["skipped"]
    assert len(listed) == len(made.problems)


def test_only_broken_files_are_an_error(tokenizer, tmp_path, cache):
    (tmp_path / "in").mkdir()
    (tmp_path / "in" / "a.mp3").write_bytes(b"nothing")
    with pytest.raises(UsageError, match="none of its 1 clips"):
        prepare(tmp_path / "in", tmp_path / "out", tokenizer=tokenizer, cache=cache)
    with pytest.raises(UsageError, match="without a model"):
        prepare(tmp_path / "in", tmp_path / "out", tokenizer=None, cache=cache)


def test_preparing_again_encodes_only_what_is_new(music_folder, tokenizer, tmp_path, cache):
    folder = shutil.copytree(music_folder, tmp_path / "in")
    first = prepare(folder, tmp_path / "out", tokenizer=tokenizer, cache=cache)
    before = {path.name: path.stat().st_mtime_ns for path in (tmp_path / "out" / "shards").iterdir()}
    again = prepare(folder, tmp_path / "out", tokenizer=tokenizer, cache=cache)
    assert (first.encoded, again.encoded) == (6, 0) and again.clips == first.clips
    assert {path.name: path.stat().st_mtime_ns for path in (tmp_path / "out" / "shards").iterdir()} == before
    digest = DataFolder.open(tmp_path / "out").digest
    shutil.copy(folder / "artist0" / "song0.wav", folder / "copy.wav")  # the same bytes: the same item
    (folder / "artist0" / "song1.txt").write_text("other words")
    third = prepare(folder, tmp_path / "out", tokenizer=tokenizer, cache=cache)
    assert third.encoded == 0 and len(third.clips) == 7
    assert DataFolder.open(tmp_path / "out").digest != digest
    same = {clip.split for clip in third.clips if clip.name in ("copy", "artist0/song0")}
    assert len(same) == 1, "one recording is on one side of the split"


@pytest.mark.slow
def test_a_killed_preparation_goes_on_with_what_is_finished(music_folder, tiny_model, tokenizer, tmp_path, cache):
    out = tmp_path / "out"
    code = (
        "import sys, torch\n"
        "from expotion_cli.training.data.prepare import prepare\n"
        "from expotion_cli.training.data.tokens import AudioTokenizer, find_model\n"
        "tokenizer = AudioTokenizer.load(find_model(sys.argv[1]), torch.device('cpu'))\n"
        "def tell(number, total, name):\n"
        "    if number == 3:\n"
        "        print('now', flush=True)\n"
        "        import time; time.sleep(60)\n"
        "prepare(sys.argv[2], sys.argv[3], tokenizer=tokenizer, on_clip=tell)\n"
    )
    arguments = [sys.executable, "-c", code, str(tiny_model), str(music_folder), str(out)]
    process = subprocess.Popen(arguments, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, env=dict(os.environ))
    try:
        assert process.stdout.readline() == b"now\n"
    finally:
        process.send_signal(signal.SIGKILL)
        process.wait()
    assert len(list((out / ITEMS).rglob("*.safetensors"))) == 3 and not (out / DATA_FILE).exists()
    with pytest.raises(UsageError, match="interrupted"):
        DataFolder.open(out)
    made = prepare(music_folder, out, tokenizer=tokenizer, cache=cache)
    assert made.encoded == 3 and len(made.clips) == 6 and not (out / ITEMS).exists()


def test_a_damaged_shard_is_noticed_and_made_again(music_folder, tokenizer, tmp_path, cache):
    out = tmp_path / "out"
    first = prepare(music_folder, out, tokenizer=tokenizer, cache=cache)
    (shard,) = (out / "shards").iterdir()
    content = bytearray(shard.read_bytes())
    content[-5] ^= 255
    shard.write_bytes(bytes(content))
    again = prepare(music_folder, out, tokenizer=tokenizer, cache=cache)
    assert again.encoded == 1 and again.clips == first.clips
    data = DataFolder.open(out)
    assert {data.load(clip.digest).tokens.shape[1] for clip in again.clips} == {300}
    (shard,) = (out / "shards").iterdir()
    shard.write_bytes(shard.read_bytes()[:-9])
    with pytest.raises(UsageError, match="missing or cut off"):
        DataFolder.open(out)


@pytest.mark.slow
def test_a_full_disk_says_so_and_keeps_what_is_finished(music_folder, tiny_model, tmp_path):
    """The limit on a file's size stands in for the disk: the system refuses the write in its middle."""
    code = (
        "import sys, resource, torch\n"
        "from expotion_cli.errors import OutputError\n"
        "from expotion_cli.training.data.prepare import prepare\n"
        "from expotion_cli.training.data.tokens import AudioTokenizer, find_model\n"
        "tokenizer = AudioTokenizer.load(find_model(sys.argv[1]), torch.device('cpu'))\n"
        "def tell(number, total, name):\n"
        "    if number == 2:\n"
        "        resource.setrlimit(resource.RLIMIT_FSIZE, (4000, 4000))\n"
        "try:\n"
        "    prepare(sys.argv[2], sys.argv[3], tokenizer=tokenizer, on_clip=tell)\n"
        "except OutputError as error:\n"
        "    print(error)\n"
    )
    arguments = [sys.executable, "-c", code, str(tiny_model), str(music_folder), str(tmp_path / "out")]
    done = subprocess.run(arguments, capture_output=True, text=True)
    assert "can't be written" in done.stdout, done.stderr[-2000:]
    items = list((tmp_path / "out" / ITEMS).rglob("*"))
    assert len([path for path in items if path.is_file()]) == 2


def test_ready_tokens_and_features_are_taken_as_they_are(tmp_path, cache):
    made = prepare(tokens_folder(tmp_path), tmp_path / "out", tokenizer=None, cache=cache)
    data = DataFolder.open(tmp_path / "out")
    assert [clip.caption for clip in made.clips] == ["music 0", "music 1", "music 2"] and not made.problems
    stream = data.load(made.clips[0].digest).streams["raft"]
    assert stream.values.shape == (15, 256) and stream.rate_hz == 5 and data.tokens.num_codebooks == 4
    assert data.content["tokens"]["num_streams"] == 4, "stored under the name that earlier folders have"
    assert not made.clips[0].has_sound


def test_features_of_another_width_or_length_are_named_and_skipped(tmp_path, cache):
    path = tokens_folder(tmp_path, count=5)
    torch.save(torch.zeros(15, 768), tmp_path / "f0.pt")
    torch.save(torch.zeros(60, 256), tmp_path / "f1.pt")
    np.save(tmp_path / "t2.npy", np.zeros((2, 150), np.int64))
    made = prepare(path, tmp_path / "out", tokenizer=None, cache=cache)
    assert [clip.name for clip in made.clips] == ["t3", "t4"]
    said = [str(problem) for problem in made.problems]
    assert "768 wide, raft is 256" in said[0] and "3.00 s long, the features 12.00 s" in said[1]
    assert "2 codebooks, the model has 4" in said[2]


def test_features_of_no_known_width_have_to_be_named(tmp_path, cache):
    path = tokens_folder(tmp_path, count=2, width=7)
    with pytest.raises(UsageError, match="not the width of a known stream"):
        prepare(path, tmp_path / "out", tokenizer=None, cache=cache)
    named = PrepareOptions(features=(StreamSpec.numbered("a", 3), StreamSpec.numbered("b", 4)))
    made = prepare(path, tmp_path / "out", tokenizer=None, options=named, cache=cache)
    streams = DataFolder.open(tmp_path / "out").load(made.clips[0].digest).streams
    assert {name: stream.values.shape[1] for name, stream in streams.items()} == {"a": 3, "b": 4}


def test_a_given_split_is_kept_and_its_leaks_are_told(tmp_path, cache):
    train = tokens_folder(tmp_path, count=4)
    test = tmp_path / "test.txt"
    test.write_text("f0.pt|t0.npy|{'audio_id': 'track 0'}\nf3.pt|t3.npy|{'audio_id': 'elsewhere'}\n")
    options = PrepareOptions(held_out=test)
    made = prepare(train, tmp_path / "out", tokenizer=None, options=options, cache=cache)
    assert [clip.split for clip in made.clips] == [TRAIN] * 4 + [HELD_OUT] * 2
    assert made.leaks.same_track == ("held-out/t0",) and len(made.leaks.same_target) == 2
    stored = json.loads((tmp_path / "out" / DATA_FILE).read_text())["leaks"]
    assert stored["same_track"] == ["held-out/t0"] and stored["held_out"] == 2
    options = PrepareOptions(held_out=test, drop_leaks=True)
    made = prepare(train, tmp_path / "out", tokenizer=None, options=options, cache=cache)
    assert made.leaks.is_clean and sum(clip.split == TRAIN for clip in made.clips) == 1


def test_a_model_that_composes_notes_has_no_tokens_for_recordings():
    with pytest.raises(UsageError, match="composes notes"):
        AudioTokenizer.load(find_model("expotion-mini"), torch.device("cpu"))


def test_an_output_folder_that_is_a_file_says_so(music_folder, tokenizer, tmp_path, cache):
    (tmp_path / "out").write_text("in the way")
    with pytest.raises(OutputError, match="can't be written"):
        prepare(music_folder, tmp_path / "out", tokenizer=tokenizer, cache=cache)
