"""`expotion evaluate` and `expotion evaluate ablate`: flags, messages, exit codes."""

from __future__ import annotations

import json
import re
import shutil

import numpy as np
import pytest

from expotion_cli.evaluation import baselines
from expotion_cli.media.flac import to_16_bit, write_flac

RATE = 48_000


@pytest.fixture(scope="module")
def folder(tmp_path_factory, make_video):
    """Three clips, two sets of music for them."""
    root = tmp_path_factory.mktemp("evaluate")
    for number, name in enumerate(("one", "two", "three")):
        make_video(root / "clips" / f"{name}.mp4", duration_s=2.0, hue=90 * number, sound=name != "three")
        for spacing, kind in ((0.4, "ours"), (0.3, "theirs")):
            (root / kind).mkdir(exist_ok=True)
            sound = baselines.strike(np.arange(0.1 * number, 2, spacing), 2.0, RATE)
            write_flac(root / kind / f"{name}.flac", to_16_bit(sound), RATE)
    return root


@pytest.fixture
def copy(folder, tmp_path):
    return shutil.copytree(folder, tmp_path / "copy")


def test_sets_are_measured_side_by_side(expotion, folder, tmp_path):
    page = tmp_path / "page.html"
    done = expotion(
        "evaluate", folder / "clips",
        "--outputs", f"ours={folder / 'ours'}", "--outputs", f"theirs={folder / 'theirs'}",
        "--baseline", "theirs", "--reference", "theirs", "--html", page,
    )  # fmt: skip
    assert done.exit_code == 0, done.stderr
    for word in ("ours", "theirs", "bare rule over theirs", "drum rule", "metronome", "motion-onset r", "hits"):
        assert word in done.stdout
    for word in (
        "spectrum, dB",
        "Beside theirs",
        "spread, dB, holes, %, pulse: the sound is silent or shorter than 3 s",
    ):
        assert word in done.stdout
    assert "not measured: FAD (CLAP), CLAP score: " not in done.stdout, "without prompts CLAP score has another reason"
    assert "needs laion/clap-htsat-unfused (run: hf download" in done.stdout
    assert "<table>" in page.read_text(encoding="utf-8")
    assert re.search(r"^ours follows the picture (no )?better than chance", done.stdout.splitlines()[-2]), "a verdict"
    assert done.stdout.splitlines()[-1].startswith("theirs follows the picture ")


def test_json_is_all_that_is_printed(expotion, folder):
    done = expotion(
        "evaluate", folder / "clips", "--outputs", folder / "ours", "--json", "--only", "sync", "--no-yardsticks"
    )
    said = json.loads(done.stdout)
    assert done.exit_code == said["exit_code"] == 0 and [one["name"] for one in said["sets"]] == ["ours"]
    assert set(said["sets"][0]["figures"]["correlation"]["by_clip"]) == {"one", "two", "three"}


def test_the_music_alone_can_be_measured(expotion, folder):
    done = expotion("evaluate", folder / "clips", "--outputs", folder / "ours", "--json", "--only", "music")
    said = json.loads(done.stdout)
    assert [one["name"] for one in said["sets"]] == ["ours", "bare rule over ours", "drum rule", "metronome"]
    assert set(said["metrics"]) == {"spread", "hole", "pulse"} and said["metrics"]["spread"]["better"] == "1.5 to 7.5"


def test_scored_videos_are_measured_by_themselves(expotion, folder):
    done = expotion("evaluate", folder / "clips", "--only", "sync", "--no-yardsticks")
    assert done.exit_code == 0 and "own sound" in done.stdout and "no sound in three: left out" in done.stderr
    alone = expotion("evaluate", folder / "clips" / "one.mp4", "--only", "sync")
    assert alone.exit_code == 0 and "a single clip" in alone.stderr and "can't be ranked" in alone.stdout


def test_what_does_not_fit_is_said_and_the_rest_is_measured(expotion, copy):
    (copy / "ours" / "one.flac").unlink()
    (copy / "ours" / "stranger.flac").write_bytes((copy / "ours" / "two.flac").read_bytes())
    write_flac(copy / "ours" / "three.flac", np.zeros((2, RATE), np.int16), RATE)
    done = expotion("evaluate", copy / "clips", "--outputs", f"ours={copy / 'ours'}", "--only", "sync")
    assert done.exit_code == 0
    for words in ("no clip for stranger.flac", "no output for one", "three.flac is silent", "1.0 s shorter"):
        assert words in done.stderr, words


def test_files_that_cannot_be_read_exit_with_1_and_are_named(expotion, copy):
    (copy / "ours" / "two.flac").write_text("no sound")
    (copy / "clips" / "three.mp4").write_text("no video")
    done = expotion("evaluate", copy / "clips", "--outputs", f"ours={copy / 'ours'}", "--only", "sync", "--json")
    said = json.loads(done.stdout)
    assert done.exit_code == said["exit_code"] == 1 and said["sets"][0]["clips"] == ["one"]
    assert {failure["path"].rsplit("/", 1)[1] for failure in said["failed"]} == {"two.flac", "three.mp4"}
    assert "Traceback" not in done.stderr and done.stderr.count("failed:") == 2


@pytest.mark.parametrize("what", ["no clips", "no outputs", "no match", "all broken"])
def test_nothing_to_measure_exits_with_3(expotion, copy, tmp_path, what):
    clips, outputs = copy / "clips", copy / "ours"
    if what == "no clips":
        clips = tmp_path / "empty"
        clips.mkdir()
    elif what in ("no outputs", "no match"):
        shutil.rmtree(outputs)
        outputs.mkdir()
        if what == "no match":
            (outputs / "stranger.flac").write_bytes((copy / "theirs" / "one.flac").read_bytes())
    else:
        for path in outputs.glob("*.flac"):
            path.write_text("no sound")
    done = expotion("evaluate", clips, "--outputs", f"ours={outputs}", "--only", "sync", "--json")
    assert done.exit_code == 3 and json.loads(done.stdout)["exit_code"] == 3, done.stderr
    assert "error:" in done.stderr and "Traceback" not in done.stderr


@pytest.mark.parametrize(
    ("flags", "wanted"),
    [
        (["--outputs", "other=nowhere"], "no such folder of outputs"),
        (["--outputs", "=x"], "NAME=FOLDER"),
        (["--baseline", "other"], "No set is called 'other'"),
        (["--reference", "nowhere"], "neither a set"),
        (["--only", "sinc"], "did you mean 'sync'"),
        (["--only", ","], "--only is empty"),
        (["--motion", "flo"], "did you mean 'flow'"),
        (["--sound-starts", "end"], "One of: file, picture"),
        (["--prompts", "none.json"], "prompts can't be read"),
        (["--weights", "nowhere"], "no such folder of weights"),
        (["--seed", "-1"], "--seed"),
        (["--nonsense"], "--nonsense"),
    ],
)
def test_wrong_values_exit_with_2(expotion, folder, flags, wanted):
    base = [] if "=x" in flags else ["--outputs", f"ours={folder / 'ours'}"]
    done = expotion("evaluate", folder / "clips", *base, *flags)
    assert done.exit_code == 2 and wanted in done.stderr and "Traceback" not in done.stderr


def test_sets_of_one_name_are_refused(expotion, folder):
    twice = ["--outputs", f"ours={folder / 'ours'}", "--outputs", f"ours={folder / 'theirs'}"]
    done = expotion("evaluate", folder / "clips", *twice)
    assert done.exit_code == 2 and "Two sets are called 'ours'" in done.stderr


def test_common_leaves_only_clips_that_all_sets_have(expotion, copy):
    (copy / "ours" / "one.flac").unlink()
    sets = ["--outputs", f"ours={copy / 'ours'}", "--outputs", f"theirs={copy / 'theirs'}"]
    done = expotion("evaluate", copy / "clips", *sets, "--common", "--only", "sync", "--no-yardsticks", "--json")
    assert [sorted(one["clips"]) for one in json.loads(done.stdout)["sets"]] == [["three", "two"]] * 2


@pytest.mark.long
def test_ablate_is_a_command_of_its_own_with_its_own_flags(expotion, composer, folder, tmp_path):
    flags = "--conditions text,both --visual-guidance 1,2 --guidance 3 --seeds 2 --seed 5 --model other --adapter none"
    done = expotion("evaluate", "ablate", folder / "clips", *flags.split(), "--only", "sync,notes", "--json")
    said = json.loads(done.stdout)
    assert done.exit_code == 0, done.stderr
    assert [one["name"] for one in said["sets"]][:3] == ["text", "both, visual 1", "both, visual 2"]
    assert said["settings"]["seeds"] == [5, 6] and said["baseline"] == "text" and len(composer.composed) == 18
    assert composer.asked[0]["name"] == "other" and composer.asked[0]["adapter"] == ["none"]


def test_ablate_explains_itself_and_refuses_what_is_wrong(expotion, composer, folder):
    said = expotion("evaluate", "ablate", "--help")
    assert said.exit_code == 0 and "--conditions" in said.stdout and "evaluate ablate" in said.stdout
    assert "--outputs" not in said.stdout and "--outputs" in expotion("evaluate", "--help").stdout
    for flags in (["--conditions", "tex"], ["--visual-guidance", "x"], ["--recipe", "none"], ["--only", "all"]):
        done = expotion("evaluate", "ablate", folder / "clips", *flags)
        assert done.exit_code == 2 and "Traceback" not in done.stderr, flags
    assert not composer.asked, "nothing is loaded before flags are right"


def test_a_folder_of_clips_called_ablate_is_reached_by_its_path(expotion, copy, monkeypatch):
    (copy / "clips").rename(copy / "ablate")
    monkeypatch.chdir(copy)
    done = expotion("evaluate", "./ablate", "--outputs", "ours", "--only", "sync", "--no-yardsticks")
    assert done.exit_code == 0 and "ours" in done.stdout
