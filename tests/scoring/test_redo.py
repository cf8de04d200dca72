"""Bars of a result are composed anew; the result is one like any other: digest, rerun, dry run, interruption."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
from fake_composer import FakeComposer, FakeNoteComposer

from expotion_cli.errors import UsageError
from expotion_cli.music.identity import ModelIdentity
from expotion_cli.recipe import load_recipe
from expotion_cli.scoring import batch, results
from expotion_cli.scoring.account import Account, Listener
from expotion_cli.scoring.cue_store import CueStore
from expotion_cli.scoring.plan import Settings, plan
from expotion_cli.scoring.redo import TOKENS, Redo, bars_of, tokens_digest
from expotion_cli.spans import read_spans
from expotion_cli.storage import cache_root
from expotion_cli.timing import Tempo

FLAGS = {"streams.use": (), "tempo.min": 120.0, "tempo.max": 120.0, "compose.key": "C minor"}
FIRST, LATER = Redo(((2.2, 3.5),)), Redo(((4.1, 4.7),), seed=5)


@pytest.fixture(scope="module")
def clip(tmp_path_factory, make_video) -> Path:
    return make_video(tmp_path_factory.mktemp("clips") / "a.mp4", duration_s=5.0, sound=False, size="32x32")


class Notes(Listener):
    def __init__(self):
        self.said: list[str] = []

    def note(self, text):
        self.said.append(text)


def run(clip, out, redo=None, *, composer=None, flags=None, wanted=None, listener=None, **settings):
    """Scores, after a dry run that must foretell it; returns (result, composer)."""
    composer = composer or FakeNoteComposer()
    planned = plan(
        [clip], load_recipe("cinematic", {**FLAGS, **(flags or {})}), Settings(out=out, redo=redo, **settings)
    )
    (ahead,) = Account(planned, Listener()).standings(ModelIdentity.of(composer)).values()
    (result,) = batch.run(planned, lambda: composer, listener=listener).results
    would = {"scored": ("score", "redo", "replace"), "already": ("already",), "refused": ("refuse",)}
    assert ahead.verdict in would[result.status], (ahead, result)
    assert str(ahead.error) == str(result.error)
    if wanted is not None:
        assert (ahead.verdict, result.status) == wanted, result.error
    return result, composer


def tokens(result) -> np.ndarray:
    """The tokens that a result was made of, as its sidecar names them: of its takes, and of its redos."""
    found = [CueStore(cache_root() / "cues").get(path.stem) for path in (cache_root() / "cues").rglob("*.safetensors")]
    return next(cue.tokens for cue in found if tokens_digest(cue.tokens) == result.sidecar[TOKENS])


def test_the_bars_that_the_span_touches_are_new_and_all_others_are_the_old_ones(clip, tmp_path):
    before, _ = run(clip, tmp_path)
    old = tokens(before)
    after, composer = run(clip, tmp_path, FIRST, wanted=("redo", "scored"))
    new = tokens(after)
    (row,) = after.sidecar["redone"]
    assert row["bars"] == [[2, 2]] and row["redone_s"] == [[2.0, 4.0]] and row["asked_s"] == [[2.2, 3.5]]
    assert row["seed"] == before.sidecar["seed"] + 1 and row["prompt"] is None
    changed = np.flatnonzero((old != new).any(axis=0))
    assert len(changed) and 48 <= changed.min() and changed.max() < 96
    assert after.sidecar["artefact"] != before.sidecar["artefact"]
    assert len(composer.requests) == 1, "the rest is not composed again"


@pytest.mark.long
def test_rerunning_the_redo_or_the_first_command_leaves_the_redone_result(clip, tmp_path):
    run(clip, tmp_path)
    made, _ = run(clip, tmp_path, FIRST)
    content = (tmp_path / "a.mp4").read_bytes()
    for redo in (FIRST, None):
        again, composer = run(clip, tmp_path, redo, wanted=("already", "already"))
        assert again.sidecar["redone"] == made.sidecar["redone"] and not composer.composed
        assert (tmp_path / "a.mp4").read_bytes() == content


@pytest.mark.long
def test_redos_add_up_and_each_is_known_again(clip, tmp_path):
    run(clip, tmp_path)
    run(clip, tmp_path, FIRST)
    both, _ = run(clip, tmp_path, LATER, wanted=("redo", "scored"))
    assert [row["bars"] for row in both.sidecar["redone"]] == [[[2, 2]], [[3, 3]]]
    assert both.sidecar["redone"][1]["seed"] == 5
    for redo in (FIRST, LATER, None):
        run(clip, tmp_path, redo, wanted=("already", "already"))
    over, _ = run(clip, tmp_path, Redo(FIRST.spans, seed=9), wanted=("redo", "scored"))
    assert len(over.sidecar["redone"]) == 3
    run(clip, tmp_path, FIRST, wanted=("redo", "scored"))  # those bars are another's now: it is done again


@pytest.mark.long
def test_a_lost_cache_makes_the_same_result_again_step_by_step(clip, tmp_path):
    run(clip, tmp_path)
    run(clip, tmp_path, FIRST)
    made, _ = run(clip, tmp_path, LATER)
    content = (tmp_path / "a.mp4").read_bytes()
    shutil.rmtree(cache_root() / "cues")
    (tmp_path / "a.mp4").unlink()
    again, composer = run(clip, tmp_path, None, wanted=("score", "scored"))
    assert len(composer.requests) == 3
    assert (tmp_path / "a.mp4").read_bytes() == content
    assert again.sidecar["artefact"] == made.sidecar["artefact"] and again.sidecar["redone"] == made.sidecar["redone"]


@pytest.mark.long
def test_notes_that_were_lost_and_come_out_otherwise_are_not_taken_for_those_of_the_result(clip, tmp_path):
    run(clip, tmp_path)
    content = (tmp_path / "a.mp4").read_bytes()
    shutil.rmtree(cache_root() / "cues")

    class OtherMachine(FakeNoteComposer):
        def generate(self, requests, **options):
            for index, tokens in super().generate(requests, **options):
                yield index, np.where(tokens > 40, tokens - 1, tokens)

    planned = plan([clip], load_recipe("cinematic", FLAGS), Settings(out=tmp_path, redo=FIRST))
    (result,) = batch.run(planned, OtherMachine).results
    assert result.status == "failed" and "no longer in the cache" in str(result.error)
    assert (tmp_path / "a.mp4").read_bytes() == content


@pytest.mark.long
def test_overwrite_scores_all_anew_without_what_was_redone(clip, tmp_path):
    first, _ = run(clip, tmp_path)
    run(clip, tmp_path, FIRST)
    again, _ = run(clip, tmp_path, overwrite=True)
    assert again.sidecar["artefact"] == first.sidecar["artefact"] and "redone" not in again.sidecar


@pytest.mark.long
def test_an_interruption_leaves_the_old_result_and_the_same_command_goes_on(clip, tmp_path, monkeypatch):
    run(clip, tmp_path)
    before = (tmp_path / "a.mp4").read_bytes()
    with monkeypatch.context() as patched:
        patched.setattr(results, "finish_clip", _stops)
        with pytest.raises(BaseException):  # noqa: B017
            _redo_alone(clip, tmp_path)
    assert (tmp_path / "a.mp4").read_bytes() == before
    assert "redone" not in json.loads((tmp_path / "a.score.json").read_text())
    after, composer = run(clip, tmp_path, FIRST, wanted=("redo", "scored"))
    assert after.sidecar["redone"] and not composer.composed, "the cue was kept"


@pytest.mark.long
def test_a_kill_between_video_and_sidecar_is_taken_up(clip, tmp_path, monkeypatch):
    run(clip, tmp_path)
    with monkeypatch.context() as patched:
        patched.setattr(results.sidecar, "write_sidecar", _stops)
        with pytest.raises(BaseException):  # noqa: B017
            _redo_alone(clip, tmp_path)
    after, _ = run(clip, tmp_path, FIRST, wanted=("redo", "scored"))
    assert after.sidecar["redone"]
    run(clip, tmp_path, wanted=("already", "already"))


def _stops(*_, **__):
    raise KeyboardInterrupt


def _redo_alone(clip, out):
    planned = plan([clip], load_recipe("cinematic", FLAGS), Settings(out=out, redo=FIRST))
    batch.run(planned, FakeNoteComposer)


@pytest.mark.long
@pytest.mark.parametrize(
    ("options", "wanted"),
    [
        ({"redo": Redo(((4.0, 12.0),))}, "reaches beyond the clip, which lasts 5.000 s"),
        ({"redo": FIRST, "flags": {"generate.seed": 3}}, "the result is of another seed ("),
        ({"redo": FIRST, "flags": {"prompt": "quiet"}}, "of another prompt. Pass --redo with the flags"),
        ({"redo": FIRST, "composer": FakeComposer()}, "--redo needs a model that writes notes, and fake makes sound"),
    ],
)
def test_what_can_not_be_redone_is_refused_and_left_alone(clip, tmp_path, options, wanted):
    run(clip, tmp_path)
    before = (tmp_path / "a.mp4").read_bytes()
    refused, _ = run(clip, tmp_path, **options)
    assert refused.status == "refused" and wanted in str(refused.error)
    assert (tmp_path / "a.mp4").read_bytes() == before


def test_a_clip_without_a_result_is_refused(clip, tmp_path):
    refused, composer = run(clip, tmp_path, FIRST, wanted=("refuse", "refused"))
    assert "there is no result yet" in str(refused.error) and not composer.composed
    assert not (tmp_path / "a.mp4").exists()


def test_spans_touch_bars():
    timeline = Tempo(bpm=_exact(120), start=_exact(-0.5), confidence=0.0).timeline(_exact(9))
    assert bars_of([(0.0, 1.49)], timeline) == ((1, 1),)
    assert bars_of([(1.5, 3.505)], timeline) == ((2, 2),), "a few milliseconds of a bar are no bar"
    assert bars_of([(1.4, 1.6), (3.6, 3.7)], timeline) == ((1, 3),), "runs that meet are one"
    assert bars_of([(8.9, 9.0)], timeline) == ((5, 5),)


def _exact(value):
    from fractions import Fraction

    return Fraction(value)


@pytest.mark.parametrize("text", ["5", "a-b", "5-", "-5", "7-5", "5-5", "1:99:2-3x"])
def test_what_is_no_span_is_refused(text):
    with pytest.raises(UsageError, match="--redo"):
        read_spans([text], "--redo")


def test_spans_are_read_in_seconds_and_on_a_clock():
    assert read_spans(["12.0-18.5", "0:01 - 0:02.5, 1:00-1:01"], "--redo") == ((1.0, 2.5), (12.0, 18.5), (60.0, 61.0))
    assert read_spans(["5-6", "5.5-7", "7-8"], "--redo") == ((5.0, 8.0),)
