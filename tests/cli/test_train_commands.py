"""`expotion train prepare` and `expotion train adapter`: flags, messages, exit codes, and the way to a scored clip."""

from __future__ import annotations

import json
import os
import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from adapter_runs import SMALL
from tiny_music import CAPTIONS, save_tiny, song, write_wav

from expotion_cli.scoring.sidecar import read_sidecar
from expotion_cli.training.logs import read_log

FEW = tuple(part for setting in SMALL for part in ("--set", setting))


@pytest.fixture(scope="module")
def model(tmp_path_factory) -> Path:
    return save_tiny(tmp_path_factory.mktemp("tiny") / "model")


@pytest.fixture(scope="module")
def footage(tmp_path_factory, make_video) -> Path:
    """Three people with two clips each and their music beside them, and a piece of music without a picture."""
    folder = tmp_path_factory.mktemp("footage")
    for number in range(6):
        clip = folder / ("ana", "ben", "cleo")[number // 2] / f"take{number}.mp4"
        make_video(clip, duration_s=2.4, hue=50 * number, sound=False)
        write_wav(clip.with_suffix(".wav"), song(number, 2.4, 80 + 12 * number))
        clip.with_suffix(".txt").write_text(CAPTIONS[number % 4])
    write_wav(folder / "ana" / "alone.wav", song(9, 3.0))
    return folder


@pytest.fixture(scope="module")
def data(footage, model, tmp_path_factory) -> Path:
    from typer.testing import CliRunner

    from expotion_cli.cli.app import app

    out = tmp_path_factory.mktemp("prepared") / "data"
    flags = ["--model", model, "--out", out, "--streams", "flow", "--held-out-share", "0.3"]
    done = CliRunner().invoke(app, ["train", "prepare", *map(str, [footage, *flags])])
    assert done.exit_code == 0, done.stderr
    return out


@pytest.fixture
def prepare(expotion, model, tmp_path):
    """Runs `expotion train prepare SOURCE` into `tmp_path / "data"`."""
    flags = ["--model", model, "--out", tmp_path / "data", "--streams", "flow"]
    return lambda source, *more: expotion("train", "prepare", source, *flags, *more)


@pytest.fixture
def train(expotion, model, tmp_path):
    """Runs a short `expotion train adapter --data DATA` into `tmp_path / "run"`."""
    flags = ["--model", model, "--out", tmp_path / "run", "--device", "cpu"]
    return lambda data, *more: expotion("train", "adapter", "--data", data, *flags, *FEW, *more)


@pytest.mark.long
def test_from_a_folder_of_clips_to_a_scored_clip(expotion, prepare, train, footage, model, tmp_path):
    done = prepare(footage, "--held-out-share", "0.3")
    assert done.exit_code == 0, done.stderr
    assert "5 to train on" in done.stdout and "2 held out" in done.stdout and "data" in done.stdout
    assert "split: no held-out clip shares its track, its recording or its person" in done.stderr
    content = json.loads((tmp_path / "data" / "data.json").read_text())
    people = {split: {c["person"] for c in content["clips"] if c["split"] == split} for split in ("train", "held_out")}
    assert len(people["held_out"]) == 1 and not people["held_out"] & people["train"]
    assert {clip["caption"] for clip in content["clips"]} <= {*CAPTIONS, ""}

    done = train(tmp_path / "data")
    assert done.exit_code == 0, done.stderr
    assert "held-out loss" in done.stdout and "with another clip's motion" in done.stdout
    assert done.stderr.count("held out: step ") == 3
    last = done.stdout.strip().splitlines()[-1]
    assert "score with it: expotion-score clips --model" in last
    flags = shlex.split(last.partition("expotion-score clips ")[2])
    clip = footage / "ana" / "take0.mp4"
    done = expotion("score", clip, *flags, "--lufs", "-30", "--out", tmp_path / "scored")
    assert done.exit_code == 0, done.stderr
    assert str(tmp_path / "run" / "adapter") in json.dumps(read_sidecar(tmp_path / "scored" / "take0.mp4"))
    assert "does not get" not in done.stderr, "it sees what it was trained to see, without being told"


@pytest.mark.slow
@pytest.mark.parametrize("page", ["README.md", "docs/training.md"])
def test_the_pages_commands_are_true_as_typed(expotion, repository, footage, model, tmp_path, monkeypatch, page):
    """Only the model is a tiny one, the training short, and the loudness what random weights can reach."""
    text = (repository / page).read_text(encoding="utf-8")
    block = next(part for part in re.findall(r"```sh\n(.*?)```", text, re.DOTALL) if "train prepare footage" in part)
    lines = [shlex.split(line) for line in block.splitlines()]
    assert [line[:3] for line in lines[:3]] == [
        ["expotion", "fetch", "musicgen-small"], ["expotion", "train", "prepare"], ["expotion", "train", "adapter"],
    ]  # fmt: skip
    monkeypatch.chdir(tmp_path)
    shutil.copytree(footage, "footage")
    Path("clips").mkdir()
    shutil.copy(footage / "ben" / "take2.mp4", "clips")
    Path("musicgen-small").symlink_to(model)  # what lies here is taken where no model of that name is known
    for module in ("training.data.tokens", "music.load"):
        monkeypatch.setattr(f"expotion_cli.{module}.read_manifests", dict)
    more = {"adapter": FEW, "expotion-score": ("--lufs", "-30")}
    for line in lines[1:]:
        extra = next((flags for word, flags in more.items() if word in line), ())
        command = ["score", *line[1:]] if line[0] == "expotion-score" else line[1:]
        done = expotion(*command, *extra)
        assert done.exit_code == 0, done.stderr
    assert "run/adapter" in json.dumps(read_sidecar(Path("scored/take2.mp4")))
    content = json.loads(Path("data/data.json").read_text())
    assert {"train", "held_out"} <= {clip["split"] for clip in content["clips"]}


@pytest.mark.long
def test_a_second_preparation_does_no_work_and_a_second_training_neither(prepare, train, footage, tmp_path):
    first = json.loads(prepare(footage, "--json").stdout)
    before = {path: path.stat().st_mtime_ns for path in (tmp_path / "data" / "shards").iterdir()}
    again = json.loads(prepare(footage, "--json").stdout)
    assert (first["encoded"], again["encoded"], again["exit_code"]) == (7, 0, 0)
    assert again["clips"] == first["clips"] and sum(first["clips"].values()) == 7 and first["seconds"] == 17.4
    assert {path: path.stat().st_mtime_ns for path in (tmp_path / "data" / "shards").iterdir()} == before
    one = train(tmp_path / "data", "--json")
    checkpoint = (tmp_path / "run" / "checkpoint.pt").stat().st_mtime_ns
    other = train(tmp_path / "data", "--json")
    assert json.loads(one.stdout) == json.loads(other.stdout) and json.loads(one.stdout)["steps"] == 24
    assert (tmp_path / "run" / "checkpoint.pt").stat().st_mtime_ns == checkpoint


def test_what_cannot_be_used_is_skipped_with_its_reason_and_exit_code_1(prepare, make_video, tmp_path):
    folder = tmp_path / "in"
    make_video(folder / "mute.mp4", sound=False)
    make_video(folder / "long.mp4", sound=False, duration_s=1.0)
    write_wav(folder / "long.wav", song(0, 4.0))
    (folder / "torn.mp4").write_bytes(b"\0\0\0\x18ftypmp42" + b"nothing" * 40)
    write_wav(folder / "music.wav", song(1, 3.0))
    make_video(folder / "whole.mp4", duration_s=1.5)
    done = prepare(folder, "--caption", "music for {stem}")
    assert done.exit_code == 1 and "Traceback" not in done.stderr
    lines = {Path(line.split(": ")[1]).name: line for line in done.stderr.splitlines() if line.startswith("skipped: ")}
    assert lines.keys() == {"mute.mp4", "long.mp4", "torn.mp4"}
    assert "has no music" in lines["mute.mp4"] and "mute.wav" in lines["mute.mp4"]
    assert "4.00 s long, its picture 1.00 s" in lines["long.mp4"] and "Cut them" in lines["long.mp4"]
    assert "3 skipped" in done.stdout
    clips = json.loads((tmp_path / "data" / "data.json").read_text())["clips"]
    assert {clip["name"]: clip["caption"] for clip in clips} == {"music": "music for music", "whole": "music for whole"}
    said = json.loads(prepare(folder, "--json").stdout)
    assert said["exit_code"] == 1 and len(said["skipped"]) == 3 and said["skipped"][0]["remedy"]


def test_leaks_of_a_given_split_are_told_and_can_be_dropped(prepare, footage, tmp_path):
    held_out = tmp_path / "held"
    shutil.copytree(footage / "ana", held_out / "dora")
    shutil.copytree(footage / "cleo", held_out / "cleo")
    done = prepare(footage, "--held-out", held_out)
    assert done.exit_code == 0
    assert "leak: 5 of 5 held-out clips share a recording" in done.stderr and "exact tokens" in done.stderr
    assert "leak: 2 of 5 held-out clips show a person who is also in the training clips" in done.stderr
    done = prepare(footage, "--held-out", held_out, "--drop-leaks")
    assert "5 set aside" in done.stdout and "leak:" not in done.stderr and "2 to train on" in done.stdout


def lists(folder: Path, widths: tuple[int, ...] = (256,) * 4) -> Path:
    """The authors' kind of list, with features of these widths."""
    folder.mkdir(exist_ok=True)
    rng, lines = np.random.default_rng(0), []
    for number, width in enumerate(widths):
        torch.save(torch.from_numpy(rng.normal(size=(15, width))).float(), folder / f"f{number}.pt")
        np.save(folder / f"t{number}.npy", rng.integers(0, 2048, (4, 150)))
        lines.append(f"f{number}.pt|t{number}.npy|{{'audio_id': 'track {number}', 'caption': 'music {number}'}}")
    (folder / "train.txt").write_text("\n".join(lines))
    return folder / "train.txt"


def test_the_authors_lists_need_no_model_and_features_of_another_width_are_named(expotion, tmp_path):
    listed = lists(tmp_path / "in", (256, 256, 768, 256))
    done = expotion("train", "prepare", listed, "--out", tmp_path / "data")
    assert done.exit_code == 1 and "its features are 768 wide, raft is 256" in done.stderr
    listed = lists(tmp_path / "odd", (6, 6))
    done = expotion("train", "prepare", listed, "--out", tmp_path / "more")
    assert done.exit_code == 2 and "--features NAME=6" in done.stderr
    done = expotion("train", "prepare", listed, "--out", tmp_path / "more", "--features", "arms=4,head=2")
    assert done.exit_code == 0 and "1 to train on" in done.stdout


@pytest.mark.parametrize(
    ("flags", "wanted"),
    [
        (["--streams", "flo"], "No embedding stream is called 'flo'"),
        (["--streams", "flow=somewhere"], "names a folder of features"),
        (["--caption", "{name}"], "unknown field {name}"),
        (["--features", "raft"], "NAME=WIDTH"),
        (["--model", "expotion-mini"], "composes notes"),
        (["--model", "musicgen-smal"], "musicgen-small"),
        (["--held-out", "nowhere"], "no such folder or list"),
        (["--held-out-share", "2"], "--held-out-share"),
        (["--device", "tpu9"], "There is no device 'tpu9'"),
        (["--nonsense"], "--nonsense"),
    ],
)
def test_wrong_flags_of_prepare_exit_with_2(prepare, footage, tmp_path, flags, wanted):
    done = prepare(footage, *flags)
    assert done.exit_code == 2 and wanted in done.stderr and "Traceback" not in done.stderr
    assert not (tmp_path / "data" / "data.json").exists()


def test_sources_with_nothing_to_learn_from_exit_with_2(expotion, prepare, footage, tmp_path):
    (tmp_path / "empty").mkdir()
    (tmp_path / "broken").mkdir()
    (tmp_path / "broken" / "a.mp3").write_bytes(b"nothing")
    (tmp_path / "list.txt").write_text("no bars here\n")
    for source, wanted in {
        "nowhere": "no such folder", "empty": "holds no clips", "broken": "none of its 1 clips",
        "list.txt": "three fields separated by |",
    }.items():  # fmt: skip
        done = prepare(tmp_path / source)
        assert done.exit_code == 2 and wanted in done.stderr and "Traceback" not in done.stderr, source
    done = expotion("train", "prepare", footage, "--out", tmp_path / "data")
    assert done.exit_code == 2 and "--model musicgen-small" in done.stderr


@pytest.mark.parametrize(
    ("flags", "code", "wanted"),
    [
        (["--recipe", "author"], 2, "did you mean 'authors'"),
        (["--recipe", "nowhere.toml"], 2, "no such recipe file"),
        (["--set", "train.stpes=3"], 2, "train.steps"),
        (["--set", "train.steps=-3"], 2, "train.steps"),
        (["--set", "nonsense"], 2, "KEY=VALUE"),
        (["--set", 'adapter.streams=["raft:256"]', "--set", "data.synthetic=0"], 2, "can train this adapter"),
        (["--start-from", "nowhere"], 4, "nowhere"),
        (["--model", "expotion-mini"], 2, "expotion train mini"),
        (["--model", "nowhere"], 2, "nowhere"),
        (["--device", "tpu9"], 2, "There is no device 'tpu9'"),
    ],
)
def test_wrong_flags_of_adapter_are_refused_before_anything_is_written(train, data, tmp_path, flags, code, wanted):
    done = train(data, *flags)
    assert done.exit_code == code, done.stderr
    assert wanted in done.stderr and "Traceback" not in done.stderr and not (tmp_path / "run").exists()


def test_data_that_are_not_ready_or_for_another_model_are_refused(expotion, train, footage, tmp_path):
    done = train(footage)
    assert done.exit_code == 2 and "there are no data" in done.stderr and "expotion train prepare" in done.stderr
    listed = lists(tmp_path / "in")
    assert expotion("train", "prepare", listed, "--out", tmp_path / "data").exit_code == 0
    done = train(tmp_path / "data")
    assert done.exit_code == 2 and "4 codebooks of 2048 tokens" in done.stderr and "has 2 of 32" in done.stderr
    save_tiny(tmp_path / "other", seed=5)
    shutil.rmtree(tmp_path / "data")
    song_folder = write_wav(tmp_path / "songs" / "a.wav", song(0, 3.0)).parent
    done = expotion("train", "prepare", song_folder, "--model", tmp_path / "other", "--out", tmp_path / "data")
    assert done.exit_code == 0 and "--recipe synthetic" in done.stderr and "nothing is held out" in done.stderr
    done = train(tmp_path / "data")
    assert done.exit_code == 2 and "encoded by another codec" in done.stderr and "Prepare the data again" in done.stderr


def test_a_folder_with_another_run_and_an_interruption_say_how_to_go_on(train, data, tmp_path, monkeypatch):
    def interrupted(*_):
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr("expotion_cli.training.adapter.trainer.AdapterTrainer.train_step", interrupted)
        done = train(data)
    assert done.exit_code == 130 and "Run the same command again to go on" in done.stderr
    done = train(data, "--set", "train.clip_norm=0.5")
    assert done.exit_code == 2 and "train.clip_norm differs" in done.stderr and "Choose another folder" in done.stderr
    done = train(data, "--quiet")
    assert done.exit_code == 0 and done.stdout == "" and done.stderr == ""


@pytest.mark.slow
def test_several_processes_learn_what_one_does(train, data, model, tmp_path):
    """As with several GPUs: each takes its part of every step."""
    assert train(data, "--set", "lora.rank=2").exit_code == 0
    launch = "-m accelerate.commands.launch --cpu --num_processes 2 --num_machines 1 --mixed_precision no"
    flags = [
        "--data",
        data,
        "--model",
        model,
        "--out",
        tmp_path / "two",
        "--device",
        "cpu",
        *FEW,
        "--set",
        "lora.rank=2",
    ]
    done = subprocess.run(
        [sys.executable, *launch.split(), "--dynamo_backend", "no", "-m", "expotion_cli.cli", "train", "adapter",
         *map(str, flags), "--set", "lora.rank=2"],
        capture_output=True, text=True, env={**os.environ, "OMP_NUM_THREADS": "1"},
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-3000:]
    assert done.stdout.count("score with it") == 1, "one of them speaks"
    one, two = (read_log(tmp_path / name / "held_out.csv") for name in ("run", "two"))
    assert len(one) == len(two) == 3
    for row, other in zip(one, two, strict=True):
        assert row == pytest.approx(other, abs=2e-3)


def test_remaking_the_model_begins_only_where_a_folder_is_named(expotion, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    done = expotion("train", "mini")
    assert done.exit_code == 2 and "takes hours" in done.stderr and "--out my-mini" in done.stderr
    assert not list(tmp_path.iterdir())


def test_the_embedded_model_is_remade_in_small_and_scores_a_clip(expotion, repository, clip_folder, tmp_path):
    """All stages from the corpus on, as `expotion train mini` is typed, with a recipe of one's own."""
    text = (repository / "recipes" / "train" / "mini.toml").read_text(encoding="utf-8")
    small = {
        r"num_composed = \d+": "num_composed = 16\nworkers = 1\nheld_out_share = 0.2",
        r"\bseed = 1\n\n": "seed = 1\nchorales = false\n\n",
        r"\bdim = 192": "dim = 32",
        r"num_layers = 6": "num_layers = 1",
        r"num_heads = 6": "num_heads = 2",
        r"ffn_dim = \d+": "ffn_dim = 64",
        r"d_model = \d+": "d_model = 16",
        r"vocab_size = 1024": "vocab_size = 300",
        r"window_steps = \d+": "window_steps = 96",
        r"batch = \d+": "batch = 2",
        r"\bwarm_up_steps = \d+": "warm_up_steps = 5",
        r"\bsteps = \d+": "steps = 2",
        r"eval_every = \d+": "eval_every = 2",
    }
    for pattern, new in small.items():
        text, count = re.subn(pattern, new, text)
        assert count, pattern
    recipe = tmp_path / "small.toml"
    recipe.write_text(text)
    out, flags = tmp_path / "small-mini", ["--work", tmp_path / "work", "--recipe", recipe]
    done = expotion("train", "mini", "--out", out, *flags, "--prepare", "--device", "cuda")
    assert done.exit_code == 0 and "without --prepare" in done.stdout and not out.exists(), "it needs no GPU"
    done = expotion("train", "mini", "--out", out, *flags)
    assert done.exit_code == 0, done.stderr
    flags_said = shlex.split(done.stdout.partition("expotion-score clips ")[2])
    done = expotion("score", clip_folder / "one.mp4", *flags_said, "--streams", "flow", "--out", tmp_path / "scored")
    assert done.exit_code == 0 and read_sidecar(tmp_path / "scored" / "one.mp4"), done.stderr
    recipe.write_text(text.replace("batch = 2", "batch = 3"))
    done = expotion("train", "mini", "--out", out, *flags)
    assert done.exit_code == 2 and "holds another run" in done.stderr
    for wrong, wanted in (
        (["--recipe", tmp_path / "none.toml"], "can't be read"),
        (["--device", "tpu9"], "There is no device 'tpu9'"),
    ):
        done = expotion("train", "mini", "--out", out, "--work", tmp_path / "other", *wrong)
        assert done.exit_code == 2 and wanted in done.stderr and "Traceback" not in done.stderr
