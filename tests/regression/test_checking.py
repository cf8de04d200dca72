"""Holding renders to recorded ones."""

from __future__ import annotations

import json
import shutil

import numpy as np
import pytest
from fake_composer import FakeComposer

from expotion_cli.errors import ClipError, UnknownNameError, UsageError
from expotion_cli.regression import checking
from expotion_cli.regression.reference import read_reference
from expotion_cli.weights.manifest import find_manifest


def contents(folder):
    return {path.relative_to(folder): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def statuses(result):
    return {clip.name: clip.status for clip in result.clips}


def changed(result):
    return {difference.what for clip in result.clips for difference in clip.differences}


def beyond(result):
    return {name for clip in result.clips for name in clip.beyond}


class OtherWeights(FakeComposer):
    """Composes something else from the same request."""

    digest = "model-2"

    def generate(self, requests, **options):
        for index, tokens in super().generate(requests, **options):
            yield index, (tokens * 7 + 13) % 60


class RoundsOtherwise(FakeComposer):
    """As on another processor: a token in a corner of no consequence flips."""

    def generate(self, requests, **options):
        for index, tokens in super().generate(requests, **options):
            tokens[1, -1] += 1
            yield index, tokens


@pytest.mark.long
def test_nothing_changed_is_the_same_every_time_and_at_another_place(check):
    for _ in range(3):
        result = check()
        assert result.exit_code == 0 and result.mode == "exact" and not result.machine
        assert statuses(result) == {"one.mp4": "same", "sub/two.mp4": "same"}
        assert all(set(clip.distances.values()) == {0.0} for clip in result.clips)


def test_recording_again_writes_the_same_bytes(repository, rerecord):
    before = contents(repository)
    rerecord(repository)
    assert contents(repository) == before


def test_the_manifest_holds_relative_paths_and_no_times(repository):
    text = (repository / "renders" / "regress.json").read_text()
    assert "../clips/sub/two.mp4" in text and "../mine.toml" in text
    assert str(repository.parent) not in text and 'duration_s": 1.6' in text


@pytest.mark.parametrize("mode", ["auto", "perceptual"])
def test_a_changed_prompt_in_the_recipe_is_named(check, repository, mode):
    recipe = repository / "mine.toml"
    recipe.write_text(recipe.read_text().replace("calm piano", "wild drums"))
    result = check(mode=mode)
    assert result.exit_code == 1 and "prompt" in changed(result) and "spectrum" in beyond(result)
    (prompt,) = (d for d in result.clips[0].differences if d.what == "prompt")
    assert str(prompt) == "prompt: 'calm piano' → 'wild drums'"


def test_a_changed_seed_is_named(check, repository):
    recipe = repository / "mine.toml"
    recipe.write_text(recipe.read_text().replace("per-clip", "per-clip:1"))
    result = check()
    assert result.exit_code == 1 and {"seed", "tokens"} <= changed(result) and beyond(result)


def test_any_other_changed_setting_is_named_even_if_nobody_hears_it(check, repository):
    recipe = repository / "mine.toml"
    recipe.write_text(recipe.read_text() + "top_k = 49\n[mix]\nunder_lu = 13\n")
    result = check(mode="perceptual")
    assert result.exit_code == 1 and not beyond(result)
    assert changed(result) == {"recipe generate.top_k", "recipe mix.under_lu"}


def test_titles_are_no_settings(check, repository):
    recipe = repository / "mine.toml"
    recipe.write_text('title = "Another"\n' + recipe.read_text())
    assert check().exit_code == 0


def test_flags_given_at_recording_are_given_again(check, repository, rerecord):
    rerecord(repository, prompt="a flag's words", **{"generate.seed": 5})
    assert {clip.prompt for clip in read_reference(repository / "renders").clips} == {"a flag's words"}
    assert check().exit_code == 0


@pytest.mark.parametrize("is_recipe_gone", [False, True])
def test_a_reference_recorded_under_an_earlier_keys_name_stays_valid(check, repository, rerecord, is_recipe_gone):
    rerecord(repository, **{"generate.takes": 3})
    manifest = repository / "renders" / "regress.json"
    text = manifest.read_text()
    assert text.count("takes") == 2  # among the flags and among the settings
    manifest.write_text(text.replace("takes", "drafts"))
    if is_recipe_gone:
        (repository / "mine.toml").unlink()
    result = check()
    assert result.exit_code == 0 and not changed(result)


def test_a_recipe_that_is_gone_is_replaced_by_its_recorded_settings(check, repository):
    (repository / "mine.toml").unlink()
    result = check()
    assert result.exit_code == 0 and "recorded settings" in result.notes[0]


@pytest.mark.parametrize("mode", ["exact", "perceptual"])
def test_a_loudness_error_of_1_db_is_caught_and_put_down_to_the_mix(check, too_loud, mode):
    too_loud(1.0)
    result = check(mode=mode)
    assert result.exit_code == 1 and beyond(result) == {"loudness"} and not changed(result)
    assert any("mixed or encoded" in note for note in result.clips[0].notes)
    assert all(0.8 <= clip.distances["loudness"] <= 1.2 for clip in result.clips)


@pytest.mark.parametrize("mode", ["exact", "perceptual"])
def test_a_shift_of_50_ms_is_caught(check, too_late, mode):
    too_late(0.05)
    result = check(mode=mode)
    assert result.exit_code == 1 and "lag" in beyond(result) and not changed(result)
    assert all(abs(clip.distances["lag"] - 50) < 2 for clip in result.clips)


@pytest.mark.parametrize("mode", ["exact", "perceptual"])
def test_other_weights_are_caught_by_name_and_by_ear(check, mode):
    result = check(OtherWeights(), mode=mode)
    assert result.exit_code == 1 and {"weights", "tokens"} <= changed(result) and "spectrum" in beyond(result)
    (tokens,) = (d for d in result.clips[0].differences if d.what == "tokens")
    assert "first at step 0 of 20 (0.0 s)" in tokens.now


def test_weights_that_sound_the_same_are_drift_only_where_exactness_is_asked_for(check):
    composer = FakeComposer()
    composer.digest = "model-2"
    assert check(composer, mode="exact").exit_code == 1
    result = check(composer, mode="perceptual")
    assert result.exit_code == 0 and changed(result) == {"weights"}


@pytest.mark.long
def test_a_flipped_token_is_drift_on_the_same_machine_and_a_remark_elsewhere(check, repository):
    result = check(RoundsOtherwise())
    assert result.mode == "exact" and result.exit_code == 1 and changed(result) == {"tokens"} and not beyond(result)
    assert check(RoundsOtherwise(), mode="perceptual").exit_code == 0

    manifest = repository / "renders" / "regress.json"
    values = json.loads(manifest.read_text())
    values["machine"] |= {"processor": "Another One", "torch": "1.0"}
    manifest.write_text(json.dumps(values))
    result = check(RoundsOtherwise())
    assert result.mode == "perceptual" and result.exit_code == 0
    assert result.machine["processor"][0] == "Another One" and result.machine["torch"][0] == "1.0"
    assert check(RoundsOtherwise(), mode="exact").exit_code == 1


def test_another_version_of_this_program_leaves_exactness_to_be_expected(check, repository):
    manifest = repository / "renders" / "regress.json"
    manifest.write_text(manifest.read_text().replace('"expotion": "', '"expotion": "0.'))
    result = check()
    assert result.mode == "exact" and list(result.machine) == ["expotion"]


def test_a_clip_that_is_missing_or_changed_is_an_error_that_says_so_and_the_others_are_checked(
    check, repository, make_video
):
    (repository / "clips" / "one.mp4").rename(repository / "moved.mp4")
    result = check()
    assert statuses(result) == {"one.mp4": "error", "sub/two.mp4": "same"} and result.exit_code == 1
    assert "not where it was recorded from" in str(result.clips[0].error) and "CLIPS" in str(result.clips[0].error)
    assert check(where=[repository / "moved.mp4"]).exit_code == 0, "found by its content"

    make_video(repository / "clips" / "one.mp4", duration_s=2.0, hue=30)
    result = check()
    assert result.exit_code == 1 and "has changed since it was recorded" in str(result.clips[0].error)
    shutil.rmtree(repository / "clips")
    assert check().exit_code == 3, "nothing could be checked"


def test_a_file_that_is_no_clip_of_the_reference_is_remarked(check, repository, make_video):
    make_video(repository / "clips" / "three.mp4", duration_s=0.5)
    result = check(where=[repository / "clips", repository / "nowhere"])
    assert result.exit_code == 0
    assert any("three.mp4" in note for note in result.notes) and any("nowhere" in note for note in result.notes)


@pytest.mark.parametrize(("name", "content", "wanted"), [
    ("one.flac", b"version https://git-lfs.github.com/spec/v1\n", "git lfs pull"),
    ("one.flac", b"fLaC", "not the one that was recorded"),
    ("one.tokens.safetensors", None, "missing"),
])  # fmt: skip
def test_a_damaged_reference_is_an_error_and_no_drift(check, repository, name, content, wanted):
    path = repository / "renders" / name
    path.unlink()
    if content is not None:
        path.write_bytes(content)
    result = check()
    assert statuses(result) == {"one.mp4": "error", "sub/two.mp4": "same"} and wanted in str(result.clips[0].error)
    assert name in str(result.clips[0].error)


def test_a_missing_or_unreadable_reference_says_how_to_record_one(repository):
    with pytest.raises(UsageError, match="no such reference folder.*expotion regress record"):
        read_reference(repository / "nowhere")
    with pytest.raises(UsageError, match="holds no recorded reference"):
        read_reference(repository / "clips")
    manifest = repository / "renders" / "regress.json"
    values = json.loads(manifest.read_text())
    for broken in ("[1]", "{", json.dumps({**values, "model": {}}), json.dumps({**values, "clips": [{"name": "x"}]})):
        manifest.write_text(broken)
        with pytest.raises(UsageError, match="can't be read"):
            read_reference(repository / "renders")
    manifest.write_text(json.dumps({**values, "format": 2}))
    with pytest.raises(UsageError, match="format is 2"):
        read_reference(repository / "renders")


def test_a_manifest_that_points_out_of_its_folder_is_refused(check, repository):
    manifest = repository / "renders" / "regress.json"
    manifest.write_text(manifest.read_text().replace('"one.flac"', '"../../one.flac"'))
    assert "outside its folder" in str(check().clips[0].error)


def test_a_model_that_is_gone_is_named(repository):
    def load(name, **options):
        assert options == {"adapter": None, "soundfont": None, "device": "cpu", "dtype": "auto"}
        find_manifest(name, "music")

    with pytest.raises(UnknownNameError, match="fake"):
        checking.check(read_reference(repository / "renders"), load)


@pytest.mark.long
def test_update_accepts_the_new_renders_and_touches_only_what_changed(check, repository, rerecord):
    before = contents(repository / "renders")
    assert check(update=True).exit_code == 0 and contents(repository / "renders") == before

    recipe = repository / "mine.toml"
    recipe.write_text(recipe.read_text().replace("calm piano", "wild drums"))
    result = check(update=True)
    assert result.updated and result.exit_code == 0 and statuses(result)["one.mp4"] == "drift"
    again = check()
    assert again.exit_code == 0 and set(statuses(again).values()) == {"same"}
    assert read_reference(repository / "renders").clips[0].prompt == "wild drums"
    written = contents(repository / "renders")
    rerecord(repository)
    assert contents(repository / "renders") == written


def test_update_mends_a_damaged_file_but_not_a_missing_clip(check, repository):
    (repository / "renders" / "one.flac").write_bytes(b"")
    assert check(update=True).exit_code == 0 and check().exit_code == 0
    (repository / "clips" / "one.mp4").unlink()
    before = contents(repository / "renders")
    result = check(update=True)
    assert result.exit_code == 1 and not result.updated and contents(repository / "renders") == before
    assert any("not updated" in note for note in result.notes)


def test_recording_fewer_clips_removes_what_belonged_to_the_others(repository, rerecord):
    (repository / "clips" / "one.mp4").unlink()
    (repository / "renders" / "notes.txt").write_text("mine")
    rerecord(repository)
    assert {path.name for path in contents(repository / "renders")} == {
        "regress.json", "two.flac", "two.tokens.safetensors", "notes.txt"
    }  # fmt: skip


@pytest.mark.long
def test_tolerances_come_from_the_manifest_and_then_from_flags(check, repository, too_loud, rerecord):
    too_loud(1.0)
    manifest = repository / "renders" / "regress.json"
    values = json.loads(manifest.read_text())
    manifest.write_text(json.dumps({**values, "tolerances": {"loudness": 1.5}}))
    assert check().exit_code == 0
    assert check(tolerances={"loudness": 0.5}).exit_code == 1
    rerecord(repository)
    assert read_reference(repository / "renders").tolerances == {"loudness": 1.5}, "kept"
    manifest.write_text(json.dumps({**values, "tolerances": {"loundess": 1.5}}))
    with pytest.raises(UsageError, match=r"regress\.json.*did you mean 'loudness'"):
        check()


def test_what_is_not_through_when_time_is_up_is_an_error(check):
    result = check(limit_s=0.0)
    assert result.exit_code == 3 and all("time limit" in str(clip.error) for clip in result.clips)


def test_a_clip_that_can_not_be_rendered_does_not_hold_up_the_others(check, monkeypatch):
    from expotion_cli.regression import rendering

    finish = rendering.ladder.finish

    def fail(clip, *arguments, **options):
        if clip.path.name == "one.mp4":
            raise RuntimeError("out of luck")
        return finish(clip, *arguments, **options)

    monkeypatch.setattr(rendering.ladder, "finish", fail)
    result = check()
    assert statuses(result) == {"one.mp4": "error", "sub/two.mp4": "same"}
    assert "RuntimeError: out of luck" in str(result.clips[0].error)


def test_a_composer_that_fails_is_an_error_of_all_its_clips(check):
    class Broken(FakeComposer):
        def generate(self, requests, **options):
            raise MemoryError("no room")
            yield

    assert statuses(check(Broken())) == {"one.mp4": "error", "sub/two.mp4": "error"}


def test_a_recording_is_all_or_nothing(repository, rerecord, monkeypatch):
    before = contents(repository / "renders")

    class Breaks(FakeComposer):
        def generate(self, requests, **options):
            yield next(super().generate(requests, **options))
            raise ClipError("no more")

    with pytest.raises(ClipError, match="no more"):
        rerecord(repository, Breaks())
    assert contents(repository / "renders") == before


def test_tokens_of_another_shape_are_compared(check):
    class Wider(FakeComposer):
        def generate(self, requests, **options):
            for index, tokens in super().generate(requests, **options):
                yield index, np.concatenate([tokens, tokens[:1]])

    result = check(Wider())
    assert [str(d) for d in result.clips[0].differences] == ["tokens: 2×20 → 3×20"]
