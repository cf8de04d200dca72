"""Batches: what is done stays done, whatever happens in between."""

from __future__ import annotations

import dataclasses
import json
import multiprocessing
import os
import signal
from pathlib import Path

import pytest
from fake_composer import FakeComposer

from expotion_cli import storage
from expotion_cli.errors import DecodeError, Interrupted, UsageError
from expotion_cli.media.loudness import measure
from expotion_cli.recipe import load_recipe
from expotion_cli.scoring import account, batch, ladder
from expotion_cli.scoring.ledger import read_ledger
from expotion_cli.scoring.plan import Settings, plan
from expotion_cli.scoring.sidecar import midi_path, sidecar_path
from expotion_cli.scoring.streams import StreamChoice
from expotion_cli.storage import temporary_name

BLIND = {"streams.use": (), "generate.takes": 1}
STEERED = {"generate.visual_guidance": 2.0, "follow.mode": "none"}


@pytest.fixture(scope="module")
def clips(tmp_path_factory, make_video) -> Path:
    folder = tmp_path_factory.mktemp("clips")
    for number, name in enumerate(("a.mp4", "b.mov", "sub/c.mp4")):
        make_video(folder / name, duration_s=0.8 + 0.2 * number, hue=60 * number, sound=number == 1)
    return folder


def score(clips, out, composer=None, *, flags=BLIND, **settings):
    composer = composer or FakeComposer()
    planned = plan([clips], load_recipe("cinematic", {**BLIND, **flags}), Settings(out=out, **settings))
    return batch.run(planned, lambda: composer)


def contents(out: Path) -> dict[str, object]:
    """Everything below `out`, with what may differ between runs (times of day, durations) left out."""
    found: dict[str, object] = {}
    for path in sorted(out.rglob("*")):
        if path.is_dir() or path.name == "ledger.jsonl":
            continue
        if path.name.endswith(".score.json"):
            sidecar = json.loads(path.read_text())
            del sidecar["stages_s"], sidecar["composed_together"]
            found[str(path.relative_to(out))] = sidecar
        else:
            found[str(path.relative_to(out))] = storage.digest_file(path)
    return found


def test_every_clip_gets_a_video_and_a_sidecar_that_tells_the_truth(clips, tmp_path):
    summary = score(clips, tmp_path / "out")
    assert (summary.exit_code, summary.count("scored")) == (0, 3)
    names = {"a.mp4", "a.score.json", "b.mov", "b.score.json", "sub/c.mp4", "sub/c.score.json"}
    assert set(contents(tmp_path / "out")) == names
    recipe = load_recipe("cinematic", BLIND)
    for source, video in ((clips / n, tmp_path / "out" / n) for n in ("a.mp4", "b.mov", "sub/c.mp4")):
        sidecar = json.loads(sidecar_path(video).read_text())
        assert sidecar["clip"]["sha256"] == storage.digest_file(source)
        assert sidecar["output"]["sha256"] == storage.digest_file(video)
        measured = measure(video)
        assert sidecar["loudness"]["integrated_lufs"] == pytest.approx(measured.integrated_lufs, abs=0.05)
        assert sidecar["loudness"]["true_peak_dbtp"] == pytest.approx(measured.true_peak_dbtp, abs=0.05)
        assert abs(measured.integrated_lufs + 14) <= 0.5 and measured.true_peak_dbtp <= -1
        assert sidecar["seed"] == recipe.seed_for(sidecar["clip"]["sha256"])
        assert (sidecar["prompt"], sidecar["recipe"]["digest"]) == (recipe.prompt, recipe.digest)
        assert sidecar["model"] == {"name": "fake", "digest": "model-1", "licence": "CC0-1.0", "backbone": "fake"}
        assert {"see", "compose", "render", "finish"} <= set(sidecar["stages_s"])
    events = [entry["event"] for entry in read_ledger(tmp_path / "out" / "ledger.jsonl")]
    assert sorted(events) == ["begin"] * 3 + ["scored"] * 3 + ["stage"] * 15


def test_a_rerun_touches_nothing(clips, tmp_path):
    score(clips, tmp_path)
    before = {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*")}
    composer = FakeComposer()
    summary = score(clips, tmp_path, composer)
    assert (summary.exit_code, summary.count("already"), composer.composed) == (0, 3, [])
    assert {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*")} == before


@pytest.mark.parametrize("damage", ["cut the video", "remove the video", "remove the sidecar"])
def test_a_damaged_result_is_made_again_and_comes_out_the_same(clips, tmp_path, damage):
    score(clips, tmp_path)
    whole = contents(tmp_path)
    video = tmp_path / "a.mp4"
    content = bytearray(video.read_bytes())
    if damage == "cut the video":
        video.write_bytes(content[: len(content) // 2])
    else:
        (video if damage == "remove the video" else sidecar_path(video)).unlink()
    summary = score(clips, tmp_path)
    assert (summary.count("scored"), summary.count("already")) == (1, 2)
    assert contents(tmp_path) == whole


class Heard(account.Listener):
    """Keeps the notes."""

    def __init__(self):
        self.notes = []

    def note(self, text):
        self.notes.append(text)


def test_streams_that_cannot_reach_the_music_are_said_once_a_run_and_in_every_sidecar(clips, tmp_path):
    composer = FakeComposer()
    composer.streams = ("marlin", "vivit")
    planned = plan([clips], load_recipe("cinematic", {"streams.use": ("flow",), **STEERED}), Settings(out=tmp_path))
    for status in ("scored", "already"):
        listener = Heard()
        summary = batch.run(planned, lambda: composer, listener=listener)
        assert summary.count(status) == 3
        (note,) = listener.notes
        assert "marlin and vivit: no encoder here gives them. The picture plays no part." in note
        assert all(result.sidecar["notes"].count(note) == 1 for result in summary.results)


def test_a_clip_without_anybody_is_told_from_one_that_is_followed(clips, tmp_path, monkeypatch):
    see = ladder.see

    def nobody_in_b(clip, names, **options):
        seen = see(clip, ("flow",), **options)
        return ladder.Seen({} if clip.path.name == "b.mov" else {"pose": seen.streams["flow"]})

    monkeypatch.setattr(ladder, "see", nobody_in_b)
    composer = FakeComposer()
    composer.streams = ("pose",)
    planned = plan([clips], load_recipe("cinematic", STEERED), Settings(out=tmp_path))
    planned = dataclasses.replace(planned, streams=StreamChoice(("pose",)))
    summary = batch.run(planned, lambda: composer, listener=(listener := Heard()))
    blind = {
        result.name
        for result in summary.results
        if "Nobody was found in the picture" in " ".join(result.sidecar["notes"])
    }
    assert (blind, listener.notes) == ({"b.mov"}, [])


def test_another_loudness_encodes_again_without_composing_again(clips, tmp_path):
    score(clips, tmp_path / "first")
    composer = FakeComposer()
    summary = score(clips, tmp_path / "quiet", composer, flags={"loudness.lufs": -20})
    assert (summary.count("scored"), composer.composed) == (3, [])
    assert abs(measure(tmp_path / "quiet" / "a.mp4").integrated_lufs + 20) <= 0.5


def test_another_seed_or_prompt_composes_again(clips, tmp_path):
    score(clips, tmp_path)
    first = contents(tmp_path)
    for flags in ({"generate.seed": 5}, {"prompt": "quiet"}):
        composer = FakeComposer()
        score(clips, tmp_path, composer, flags=flags, overwrite=True)
        assert len(composer.composed) == 3
        assert contents(tmp_path)["a.mp4"] != first["a.mp4"]


def test_overwrite_makes_everything_again_and_the_same(clips, tmp_path):
    score(clips, tmp_path)
    whole = contents(tmp_path)
    composer = FakeComposer()
    assert score(clips, tmp_path, composer, overwrite=True).count("scored") == 3
    assert len(composer.composed) == 3 and contents(tmp_path) == whole


def test_a_clip_alone_gives_the_same_bytes_as_among_others(clips, tmp_path):
    score(clips, tmp_path / "all", batch_size=2)
    score(clips / "b.mov", tmp_path / "one")
    assert (tmp_path / "all" / "b.mov").read_bytes() == (tmp_path / "one" / "b.mov").read_bytes()


def test_a_clip_with_a_prompt_of_its_own_gets_it(clips, tmp_path):
    composer = FakeComposer()
    score(clips, tmp_path, composer, prompts={"c": "a waltz", "b.mov": "a march"})
    assert sorted(composer.composed) == sorted(["a waltz", "a march", load_recipe("cinematic").prompt])


@pytest.mark.long
def test_midi_is_written_beside_the_video_and_goes_with_it(clips, tmp_path):
    score(clips, tmp_path)
    assert score(clips, tmp_path, midi=True).count("scored") == 3
    midi = midi_path(tmp_path / "a.mp4")
    assert midi.stat().st_size > 0
    assert score(clips, tmp_path, midi=True).count("already") == 3
    midi.unlink()
    assert score(clips, tmp_path, midi=True).count("scored") == 1
    # without --midi, a new result leaves no MIDI file of an older one behind
    score(clips, tmp_path, flags={"generate.seed": 1}, overwrite=True)
    assert not midi.exists()


def test_one_bad_clip_leaves_the_others_unharmed(clips, tmp_path):
    folder = tmp_path / "in"
    folder.mkdir()
    (folder / "good.mp4").write_bytes((clips / "a.mp4").read_bytes())
    (folder / "cut.mp4").write_bytes((clips / "b.mov").read_bytes()[:2000])
    (folder / "words.mp4").write_text("not a video")
    summary = score(folder, tmp_path / "out")
    assert (summary.exit_code, summary.count("scored"), summary.count("failed")) == (1, 1, 2)
    assert all(r.error.remedy and r.error.path.name == r.name for r in summary.results if r.status == "failed")
    failed = [entry["clip"] for entry in read_ledger(tmp_path / "out" / "ledger.jsonl") if entry["event"] == "failed"]
    assert sorted(failed) == ["cut.mp4", "words.mp4"]


@pytest.mark.parametrize("rung", ["see", "compose_request", "render", "finish"])
@pytest.mark.parametrize("error", [DecodeError("broken."), ZeroDivisionError("a bug"), OSError(28, "No space left")])
def test_trouble_on_any_rung_stays_with_its_clip(clips, tmp_path, monkeypatch, rung, error):
    climb, falls = getattr(ladder, rung), []

    def slippery(*arguments, **options):
        if not falls:
            falls.append(1)
            raise error
        return climb(*arguments, **options)

    monkeypatch.setattr(ladder, rung, slippery)
    summary = score(clips, tmp_path)
    assert (summary.count("scored"), summary.count("failed"), summary.exit_code) == (2, 1, 1)
    monkeypatch.undo()
    assert score(clips, tmp_path).exit_code == 0


@pytest.mark.parametrize("stem", ["Ärger & 音楽 – $(x) 'q' 100%", "長" * 70, "-v", "a.b.c", "[1]"])
def test_odd_and_long_names_are_only_names(clips, tmp_path, stem):
    folder = tmp_path / "in"
    folder.mkdir()
    (folder / f"{stem}.mp4").write_bytes((clips / "a.mp4").read_bytes())
    for suffix in (".mp4", ".score.json", ".mid"):
        lead, tail = temporary_name(tmp_path / f"{stem}{suffix}")
        (tmp_path / f"{lead}x1_y2z3w{tail}").write_bytes(b"half")
    assert score(folder, tmp_path, midi=True).exit_code == 0
    assert {path.name for path in tmp_path.iterdir() if path.is_file()} == {
        f"{stem}.mp4", f"{stem}.mid", f"{stem}.score.json", "ledger.jsonl"
    }  # fmt: skip


def test_a_file_made_by_someone_else_is_not_overwritten_unasked(clips, tmp_path):
    (tmp_path / "a.mp4").write_bytes(b"precious")
    summary = score(clips, tmp_path)
    assert summary.exit_code == 2 and (tmp_path / "a.mp4").read_bytes() == b"precious"
    assert "--overwrite" in next(r.error.remedy for r in summary.results if r.name == "a.mp4")
    assert score(clips, tmp_path, overwrite=True).exit_code == 0


def test_of_inputs_that_collide_the_first_keeps_the_name_and_the_other_is_named_as_failed(clips, tmp_path):
    recipe = load_recipe("cinematic", BLIND)
    twins = [clips / "a.mp4", clips / "b.mov", _copy(clips / "a.mp4", tmp_path)]
    planned = plan(twins, recipe, Settings(tmp_path / "o"))
    assert [job.destination.name for job in planned.jobs] == ["a.mp4", "b.mov"]
    (problem,) = planned.problems
    assert str(twins[0]) in str(problem.error) and str(twins[2]) in str(problem.error) and problem.error.remedy


def test_an_output_folder_that_can_not_be_made_is_a_usage_error(clips, tmp_path):
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(UsageError, match="can't be written") as caught:
        score(clips, tmp_path / "file" / "out")
    assert caught.value.exit_code == 2


def test_an_interrupted_batch_says_so_and_goes_on_next_time(clips, tmp_path):
    class Stopped(FakeComposer):
        def generate(self, requests, **options):
            yield next(super().generate(requests, **options))
            raise KeyboardInterrupt

    with pytest.raises(Interrupted, match="Run the same command again") as caught:
        score(clips, tmp_path, Stopped())
    assert caught.value.exit_code == 130
    composer = FakeComposer()
    assert score(clips, tmp_path, composer).exit_code == 0
    assert len(composer.composed) == 2, "the cue that was ready before the stop is not composed again"


@pytest.mark.slow
def test_results_equal_an_uninterrupted_runs_wherever_the_program_was_killed(clips, tmp_path, monkeypatch):
    score(clips, tmp_path / "whole", midi=True)
    whole = contents(tmp_path / "whole")
    total = _run_and_die(clips, tmp_path / "count", None)
    assert total >= 20
    points = sorted({1, 2, total - 1, total, *range(3, total, 3)})
    partials = 0
    for point in points:
        out = tmp_path / f"killed-{point}"
        _run_and_die(clips, out, point)
        for path in (path for path in out.rglob("*") if path.suffix in (".mp4", ".mov", ".mid")):
            if ".partial" in path.name:
                partials += 1
            else:  # under its final name a file is whole, always
                assert storage.digest_file(path) == whole[str(path.relative_to(out))]
        monkeypatch.setenv("EXPOTION_CACHE", str(out / ".cache"))
        summary = score(clips, out, midi=True)
        monkeypatch.setenv("EXPOTION_CACHE", str(tmp_path / "elsewhere"))
        assert summary.exit_code == 0
        left = {name: value for name, value in contents(out).items() if not name.startswith(".cache")}
        assert left == whole, f"killed at point {point}"
        assert not [path for path in out.rglob("*") if ".partial" in path.name and ".cache" not in path.parts]
    assert partials, "no kill ever hit a file in the making: the points are badly chosen"


def _copy(path: Path, folder: Path) -> Path:
    copy = folder / path.name
    copy.write_bytes(path.read_bytes())
    return copy


def _run_and_die(clips: Path, out: Path, point: int | None) -> int:
    """Score in a process of its own that kills itself at its n-th sync to disk; the number of syncs it reached."""
    context = multiprocessing.get_context("fork")
    counter = context.Value("i", 0)
    process = context.Process(target=_score_until, args=(clips, out, point, counter))
    process.start()
    process.join(60)
    assert process.exitcode == (0 if point is None else -signal.SIGKILL)
    return counter.value


def _score_until(clips: Path, out: Path, point: int | None, counter) -> None:
    sync = os.fsync

    def counted(handle):
        counter.value += 1
        if counter.value == point:
            os.kill(os.getpid(), signal.SIGKILL)
        return sync(handle)

    os.fsync = counted
    os.environ["EXPOTION_CACHE"] = str(out / ".cache")
    score(clips, out, midi=True)


def test_another_version_of_an_encoder_composes_again(clips, tmp_path, monkeypatch):
    from expotion_cli.vision.flow import FlowEncoder

    flow = {"streams.use": ("flow",)}
    score(clips, tmp_path, flags=flow)
    composer = FakeComposer()
    score(clips, tmp_path, composer, flags=flow)
    assert composer.composed == []
    monkeypatch.setattr(FlowEncoder, "version", "another")
    assert score(clips, tmp_path, composer, flags=flow).count("scored") == 3 and len(composer.composed) == 3


def test_what_was_measured_of_the_finished_sound_stands_in_the_sidecar(clips, tmp_path):
    summary = score(clips, tmp_path)
    for result in summary.results:
        measured = result.sidecar["measured"]
        assert set(measured) == {"spread_db", "hole_share", "pulse", "hits", "hits_chance"}
        assert measured["hole_share"] is None or 0 <= measured["hole_share"] <= 1


def test_the_sidecar_names_the_soundfont_and_what_plays_in_place_of_a_missing_kit(clips, tmp_path):
    composer = FakeComposer()
    composer.codec.soundfont = {"file": "small.sf2", "sha256": "f" * 64}
    composer.codec.check_sound = lambda settings: ("small.sf2 has no drum kit 8 (Room)",)
    score(clips, tmp_path / "out", composer)
    said = json.loads((tmp_path / "out" / "a.score.json").read_text())
    assert said["soundfont"] == composer.codec.soundfont
    assert "small.sf2 has no drum kit 8 (Room)" in said["notes"]


def test_a_missing_instrument_ends_the_run_before_anything_is_composed(clips, tmp_path):
    composer = FakeComposer()

    def refuse(settings):
        assert dict(settings.voices)["melody"].mute, "what the recipe mutes is not needed"
        raise UsageError("no violin")

    composer.codec.check_sound = refuse
    with pytest.raises(UsageError, match="no violin"):
        score(clips, tmp_path / "out", composer, flags={"compose.mute": ("melody",)})
    assert not composer.composed and not list((tmp_path / "out").glob("*.mp4"))
