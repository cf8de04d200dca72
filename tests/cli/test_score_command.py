"""`expotion score`: flags, messages, exit codes."""

from __future__ import annotations

import json
import re
import shutil
import sys

import pytest

from expotion_cli.errors import WeightsError
from expotion_cli.recipe import load_recipe


def sidecar(path):
    return json.loads(path.read_text())


def test_one_line_a_clip_when_piped_and_exit_code_0(score, clip_folder, tmp_path):
    done = score(clip_folder, "--out", tmp_path / "out")
    assert done.exit_code == 0, done.stderr
    lines = done.stdout.splitlines()
    assert len(lines) == 3 and lines[-1].startswith("2 scored in ")
    assert {line.split()[1] for line in lines[:-1]} == {"one.mp4", "sub/two.mp4"}
    assert all(re.search(r"-1[34]\.\d LUFS · -\d+\.\d dBTP", line) for line in lines[:-1])
    again = score(clip_folder, "--out", tmp_path / "out")
    assert again.exit_code == 0 and again.stdout.count("already  ") == 2 and "2 already there in" in again.stdout


def test_flags_override_the_recipe_and_the_sidecar_shows_it(score, clip_folder, tmp_path):
    flags = "--prompt calm --seed 9 --tempo 80-100 --lufs -18 --peak -3 --fade-in 0.1 --fade-out 0.2 --mix under"
    more = "--guidance 2 --visual-guidance 1 --temperature 0.5 --top-k 7 --takes 2 --audio-codec aac"
    assert score(clip_folder / "one.mp4", "--out", tmp_path, *flags.split(), *more.split()).exit_code == 0
    said = sidecar(tmp_path / "one.score.json")
    assert (said["prompt"], said["seed"]) == ("calm", 9)
    assert said["recipe"]["tempo"] == {"min": 80, "max": 100}
    assert said["recipe"]["mix"] | {"under_lu": 0} == {
        "mode": "under", "fade_in_s": 0.1, "fade_out_s": 0.2, "under_lu": 0, "audio_codec": "aac",
        "music_gain_db": 0.0, "keep_original": False, "default_track": "mix",
    }  # fmt: skip
    generate = said["recipe"]["generate"]
    kept = ("guidance", "visual_guidance", "temperature", "top_k", "takes")
    assert [generate[key] for key in kept] == [2, 1, 0.5, 7, 2]
    assert abs(said["loudness"]["integrated_lufs"] + 18) <= 0.5 and said["loudness"]["true_peak_dbtp"] <= -3


def test_model_flags_reach_the_model(score, composer, clip_folder, tmp_path):
    flags = "--model other --adapter none --adapter lora --device cpu --dtype float32 --soundfont font.sf2"
    assert score(clip_folder / "one.mp4", "--out", tmp_path, *flags.split()).exit_code == 0
    (asked,) = composer.asked
    assert [str(asked[key]) for key in ("name", "adapter", "device", "dtype", "soundfont")] == [
        "other", "['none', 'lora']", "cpu", "float32", "font.sf2"
    ]  # fmt: skip


def test_what_is_composed_can_be_said_by_flags(score, clip_folder, tmp_path):
    flags = "--metre 3/4 --mute drums,bass --dynamics 11".split()
    done = score(clip_folder / "one.mp4", "--out", tmp_path, "--key", "A minor", *flags)
    assert done.exit_code == 0, done.stderr
    recipe = sidecar(tmp_path / "one.score.json")["recipe"]
    wanted = {"key": "A minor", "metre": "3/4", "mute": ["drums", "bass"]}
    assert recipe["compose"] | wanted == recipe["compose"] and recipe["follow"]["dynamics_db"] == 11


def test_words_nobody_understands_are_named_once_for_the_batch(score, clip_folder, tmp_path):
    done = score(clip_folder, "--out", tmp_path, "--prompt", "whales and 5/4 zorblax", "--dry-run")
    assert done.stderr.count("not understood: whales, zorblax (in the prompts of 2 clips)") == 1
    assert done.stderr.count("5/4 is taken as 4/4") == 1
    sound = score(clip_folder, "--out", tmp_path, "--prompt", "zorblax", "--dry-run", "--model", "musicgen-small")
    assert "understood" not in sound.stderr, "models of sound take whatever a prompt says"


@pytest.mark.parametrize(
    ("flags", "wanted"),
    [
        ("--metre 5/4", "--metre '5/4' must be"),
        ("--key H", "or one of C, C#, Db"),
        ("--mute drumz", "did you mean 'drums'"),
        ("--backbone audiocarft --model folder", "Use expotion or audiocraft"),
        ("--backbone audiocraft", "--model FOLDER"),
        ("--backbone audiocraft --model folder --adapter other", "--adapter does not work"),
        ("--backbone audiocraft --model folder --soundfont font.sf2", "--soundfont does not work"),
        ("--backbone audiocraft --model folder --streams face", "--streams does not work"),
    ],
)
def test_flags_that_the_other_backbone_has_no_use_for_exit_with_2(expotion, clip_folder, tmp_path, flags, wanted):
    done = expotion("score", clip_folder, "--out", tmp_path / "out", *flags.split())
    assert done.exit_code == 2 and wanted in done.stderr and not (tmp_path / "out").exists()


def test_the_other_backbone_missing_exits_with_4_before_anything_is_written(
    expotion, clip_folder, tmp_path, monkeypatch
):
    for name in [name for name in sys.modules if name.partition(".")[0] == "audiocraft"]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "audiocraft", None)
    flags = ("--backbone", "audiocraft", "--model", tmp_path, "--adapter", "none", "--streams", "none")
    done = expotion("score", clip_folder, "--out", tmp_path / "out", *flags)
    assert done.exit_code == 4 and "uv run --group audiocraft" in done.stderr and not (tmp_path / "out").exists()
    assert done.stderr.count("from the prompt alone") == 1


def test_a_recipe_of_ones_own_is_given_by_path(score, clip_folder, tmp_path):
    recipe = tmp_path / "mine.toml"
    recipe.write_text('prompt = "rain"\n[loudness]\nlufs = -20\n')
    assert score(clip_folder / "one.mp4", "--recipe", recipe, "--out", tmp_path / "out").exit_code == 0
    said = sidecar(tmp_path / "out" / "one.score.json")
    assert (said["recipe"]["name"], said["prompt"], said["recipe"]["loudness"]["lufs"]) == ("mine", "rain", -20)


def test_json_summary_stands_alone_on_standard_output(score, clip_folder, tmp_path):
    (tmp_path / "bad.mp4").write_text("words")
    done = score(clip_folder, tmp_path / "bad.mp4", "--out", tmp_path / "out", "--json")
    said = json.loads(done.stdout)
    assert done.exit_code == said["exit_code"] == 1
    assert said["counts"] == {"scored": 2, "already": 0, "refused": 0, "failed": 1}
    (bad,) = (row for row in said["clips"] if row["status"] == "failed")
    assert bad["error"]["path"].endswith("bad.mp4") and bad["error"]["remedy"]
    assert all("output" in row and "loudness" in row for row in said["clips"] if row["status"] == "scored")


def test_quiet_says_nothing_but_what_went_wrong(score, clip_folder, tmp_path):
    (tmp_path / "bad.mp4").write_text("words")
    done = score(clip_folder, tmp_path / "bad.mp4", "--out", tmp_path / "out", "--quiet")
    assert done.stdout == "" and len(done.stderr.splitlines()) == 1 and "bad.mp4" in done.stderr


def test_dry_run_makes_nothing_and_loads_nothing(score, composer, clip_folder, tmp_path):
    done = score(clip_folder, "--out", tmp_path / "out", "--dry-run")
    assert done.exit_code == 0 and done.stdout.count("would score") == 2
    assert not (tmp_path / "out").exists() and not composer.asked


def test_prompts_for_single_clips_come_from_a_file(score, clip_folder, tmp_path):
    prompts = tmp_path / "prompts.json"
    prompts.write_text(json.dumps({"one": "a waltz", "three": "nobody's"}))
    done = score(clip_folder, "--prompts", prompts, "--out", tmp_path / "out")
    assert done.exit_code == 0 and "three" in done.stderr
    assert sidecar(tmp_path / "out" / "one.score.json")["prompt"] == "a waltz"
    assert sidecar(tmp_path / "out" / "sub" / "two.score.json")["prompt"] == load_recipe("cinematic").prompt


def test_input_lists_recursion_midi_and_batch_size(score, clip_folder, tmp_path):
    listing = tmp_path / "list.txt"
    listing.write_text(f"{clip_folder}\n")
    done = score("--input-list", listing, "--no-recursive", "--midi", "--batch-size", 1, "--out", tmp_path / "out")
    assert done.exit_code == 0, done.stderr
    assert {path.name for path in (tmp_path / "out").iterdir()} == {
        "one.mp4", "one.mid", "one.score.json", "ledger.jsonl"
    }  # fmt: skip


@pytest.mark.parametrize(
    ("flag", "value", "wanted"),
    [
        ("--recipe", "cinematc", "did you mean 'cinematic'"),
        ("--recipe", "/no/such.toml", "no such recipe file"),
        ("--seed", "dice", "--seed"),
        ("--tempo", "fast", "--tempo"),
        ("--tempo", "140-80", "above"),
        ("--streams", "poes", "did you mean 'pose'"),
        ("--guidance", "99", "--guidance"),
        ("--visual-guidance", "-1", "--visual-guidance"),
        ("--temperature", "-1", "--temperature"),
        ("--top-k", "-5", "--top-k"),
        ("--mix", "dukc", "did you mean 'duck'"),
        ("--under-lu", "41", "--under-lu 41.0 must be a number from 0 to 40"),
        ("--music-gain", "nan", "--music-gain nan must be a number from -24 to 24"),
        ("--stems", "mp3", "Use wav or flac"),
        ("--lufs", "3", "--lufs"),
        ("--peak", "3", "--peak"),
        ("--mix", "beside", "--mix"),
        ("--audio-codec", "mp3", "--audio-codec"),
        ("--fade-in", "-1", "--fade-in"),
        ("--fade-out", "1000", "--fade-out"),
        ("--batch-size", "0", "--batch-size"),
        ("--batch-size", "many", "--batch-size"),
        ("--prompts", "/no/such.json", "no/such.json"),
        ("--input-list", "/no/such.txt", "no/such.txt"),
        ("--lufs", "loud", "--lufs"),
        ("--no-such-flag", "1", "--no-such-flag"),
    ],
)
def test_a_wrong_value_is_named_and_exits_with_2(expotion, composer, clip_folder, tmp_path, flag, value, wanted):
    done = expotion("score", clip_folder, "--out", tmp_path / "out", flag, value)
    assert done.exit_code == 2
    assert wanted in re.sub(r"\s+", " ", done.stderr)
    assert "Traceback" not in done.stderr and not (tmp_path / "out").exists()


def test_no_clips_at_all_is_a_usage_error(score):
    done = score()
    assert done.exit_code == 2 and "--input-list" in done.stderr


@pytest.mark.parametrize("what", ["nothing there", "empty folder", "words", "cut", "sound only", "empty file"])
def test_nothing_that_can_be_scored_exits_with_3_before_any_model_loads(
    score, composer, clip_folder, tmp_path, ffmpeg, what
):
    path = tmp_path / "clip.mp4"
    if what == "empty folder":
        path.mkdir()
    elif what == "words":
        path.write_text("only words")
    elif what == "cut":
        path.write_bytes((clip_folder / "one.mp4").read_bytes()[:3000])
    elif what == "sound only":
        ffmpeg("-f", "lavfi", "-i", "sine=duration=1", path)
    elif what == "empty file":
        path.touch()
    done = score(path, "--out", tmp_path / "out")
    assert done.exit_code == 3
    (line,) = done.stderr.splitlines()
    assert str(path) in line and line.endswith(".") and line.count(".") >= 3, "file, reason and remedy"
    assert not composer.asked and not (tmp_path / "out").exists()


def test_an_unwritable_output_folder_exits_with_2(score, clip_folder, tmp_path):
    (tmp_path / "file").touch()
    done = score(clip_folder, "--out", tmp_path / "file")
    assert done.exit_code == 2 and "--out" in done.stderr


def test_missing_weights_exit_with_4(score, composer, monkeypatch, clip_folder, tmp_path):
    def load_model(name, **options):
        raise WeightsError("the weights are missing.", path="model.safetensors", remedy="Install again.")

    monkeypatch.setattr(sys.modules["expotion_cli.music.load"], "load_model", load_model)
    done = score(clip_folder, "--out", tmp_path / "out", "--json")
    assert done.exit_code == 4 and "model.safetensors" in done.stderr
    assert json.loads(done.stdout)["error"]["remedy"] == "Install again."


def test_ctrl_c_exits_with_130_and_tells_how_to_go_on(score, composer, monkeypatch, clip_folder, tmp_path):
    def generate(*arguments, **options):
        raise KeyboardInterrupt
        yield

    monkeypatch.setattr(composer, "generate", generate)
    done = score(clip_folder, "--out", tmp_path / "out")
    assert done.exit_code == 130 and "Run the same command again" in done.stderr
    monkeypatch.undo()


def test_a_clip_that_disappears_after_planning_fails_alone(score, composer, monkeypatch, clip_folder, tmp_path):
    folder = shutil.copytree(clip_folder, tmp_path / "in")
    generate = composer.generate

    def late(*arguments, **options):
        (folder / "one.mp4").unlink()
        return generate(*arguments, **options)

    monkeypatch.setattr(composer, "generate", late)
    done = score(folder, "--out", tmp_path / "out")
    assert done.exit_code == 1
    assert (tmp_path / "out" / "sub" / "two.mp4").exists() and not (tmp_path / "out" / "one.mp4").exists()


def test_an_adapter_that_sees_nothing_is_noted_once_and_not_on_every_line(expotion, composer, clip_folder, tmp_path):
    composer.streams = ("marlin",)
    steered = ("--streams", "flow", "--visual-guidance", "2")
    done = expotion("score", clip_folder, *steered, "--out", tmp_path / "out")
    assert done.exit_code == 0 and done.stderr.count("marlin") == 1 and done.stderr.startswith("note: ")
    assert "marlin" not in done.stdout
    for path in ("one.score.json", "sub/two.score.json"):
        (note,) = sidecar(tmp_path / "out" / path)["notes"]
        assert "won't follow marlin: no encoder here gives it. Only the follow layer follows the picture." in note


def test_urls_are_inputs_and_outputs_and_reports_name_them(score, clip_folder, tmp_path):
    import fsspec

    store = fsspec.filesystem("memory")
    store.store.clear()
    store.put(str(clip_folder), "/clips", recursive=True)
    ahead = score("memory://clips", "--out", "memory://done", "--dry-run", "--json")
    assert ahead.exit_code == 0, ahead.stderr
    planned = {row["clip"]: (row["would"], row["path"], row["output"]) for row in json.loads(ahead.stdout)["clips"]}
    assert planned["sub/two.mp4"] == ("score", "memory://clips/sub/two.mp4", "memory://done/sub/two.mp4")
    done = score("memory://clips", "memory://nowhere", "--out", "memory://done", "--json")
    said = json.loads(done.stdout)
    assert (done.exit_code, said["out"], said["counts"]["scored"]) == (1, "memory://done", 2)
    rows = {row["clip"]: row for row in said["clips"]}
    assert rows["one.mp4"]["path"] == "memory://clips/one.mp4"
    assert rows["one.mp4"]["sidecar"] == "memory://done/one.score.json"
    assert rows["memory://nowhere"]["error"]["path"] == "memory://nowhere"
    lines = score("memory://clips", "--out", "memory://done/").stdout.splitlines()
    assert lines[0].startswith("already  one.mp4 → memory://done/one.mp4") and lines[-1].endswith("→ memory://done/")
    local = score(f"file://{clip_folder}/one.mp4", "--out", f"file://{tmp_path}/out")
    assert local.exit_code == 0 and (tmp_path / "out" / "one.mp4").is_file()
    store.store.clear()
