"""Which conditions get which streams, on which grid, and what becomes of them."""

from __future__ import annotations

from fractions import Fraction
from types import SimpleNamespace

import numpy as np
import pytest
from fake_composer import FakeCodec, FakeComposer

from expotion_cli.errors import UsageError
from expotion_cli.evaluation import ablation, measuring
from expotion_cli.evaluation.ablation import Plan, plan_variants
from expotion_cli.evaluation.measuring import MeasureOptions
from expotion_cli.media.sound import read_sound
from expotion_cli.music.conditioning import StepStream
from expotion_cli.scoring import ladder
from expotion_cli.spotting.plan import CuePlan
from expotion_cli.spotting.sections import Intensity
from expotion_cli.timing import Timeline, resample_rows
from expotion_cli.vision.encoder import EmbeddingStream

MUTED = MeasureOptions(("sync", "notes"), baselines=False)


class BeatCodec(FakeCodec):
    """Steps run at a rate that the streams decide."""

    follows_tempo, bar_steps = True, 48

    def timeline(self, duration, tempo):
        return Timeline(duration, Fraction(tempo or 10))

    def decode(self, tokens, timeline, settings=None, *, seed=0, marks=()):
        made = super().decode(tokens[:, : max(1, int(float(timeline.duration) * 10))], timeline, settings, seed=seed)
        return SimpleNamespace(**{**vars(made), "midi": None})


class SeeingComposer(FakeComposer):
    """Remembers what each request let it see."""

    streams = ("face", "pose", "flow")

    def __init__(self):
        super().__init__()
        self.codec, self.requests = BeatCodec(), []

    def condition(self, streams, timeline, **_):
        times = timeline.step_times()
        return {
            name: StepStream(resample_rows(s.values, s.rate_hz, times), np.ones(len(times), bool))
            for name, s in streams.items()
        }

    def generate(self, requests, **options):
        self.requests += requests
        return super().generate(requests, **options)


@pytest.fixture
def clip_folder(tmp_path, make_video):
    for number, duration_s in enumerate((1.0, 1.4, 1.2)):
        make_video(tmp_path / "clips" / f"{'abc'[number]}.mp4", duration_s=duration_s, hue=60 * number, sound=False)
    return tmp_path / "clips"


@pytest.fixture
def looked(monkeypatch):
    """The encoders' place is taken: each clip's streams hold a number of its own."""

    def see(info, names, *, cache=None):
        number = float("abc".index(info.path.stem) + 1)
        rows = int(float(info.duration) * 25)
        ramp = number + np.linspace(0, 0.5, rows, dtype=np.float32)[:, None]
        streams = {
            name: EmbeddingStream(name, ramp, np.ones(rows, bool), 25.0, ("energy",), name, "1", name) for name in names
        }
        return ladder.Seen(streams)

    def spot(seen, duration, *_, **__):
        even = Intensity(2.0, (0.5,), (0.5,), "made")
        return CuePlan(float(duration), 10 + 2 * len(seen.streams), even)

    monkeypatch.setattr(ladder, "see", see)
    monkeypatch.setattr(ladder, "spot", spot)
    monkeypatch.setattr(ablation, "choose_streams", lambda names: SimpleNamespace(names=tuple(names), notes=()))


@pytest.fixture
def run(clip_folder, looked):
    """Ablates the three clips; returns the evaluation and the composer."""

    def go(options=MUTED, **facts):
        composer = SeeingComposer()
        plan = Plan(clips=[clip_folder], **facts)
        return ablation.ablate(plan, options, lambda: composer), composer

    return go


def seen_by(request) -> dict[str, int]:
    """Stream name → the number of the clip whose rows these are."""
    return {name: int(stream.values[0, 0]) for name, stream in request.conditioning.items()}


def test_each_condition_sees_what_it_should_on_the_grid_it_should(run):
    result, composer = run()
    assert [row.name for row in result.rows] == list(ablation.CONDITIONS) and result.baseline == "text"
    by_condition = dict(zip(ablation.CONDITIONS, np.reshape(composer.requests, (6, 3)), strict=True))
    streams = {"text": (), "beats": (), "face": ("face",), "motion": ("pose", "flow"), "both": ("face", "pose", "flow")}
    for condition, names in streams.items():
        for number, request in enumerate(by_condition[condition], 1):
            assert seen_by(request) == dict.fromkeys(names, number), condition
    for number, (own, other) in enumerate(zip(by_condition["both"], by_condition["shuffled"], strict=True), 1):
        assert set(seen_by(other).values()) == {number % 3 + 1}, "another clip's streams"
        assert other.timeline == own.timeline and other.seed == own.seed, "on the clip's own grid"
        assert other.conditioning["face"].values.shape == own.conditioning["face"].values.shape
    assert {float(r.timeline.rate_hz) for r in by_condition["text"]} == {10.0}
    assert {float(r.timeline.rate_hz) for r in by_condition["beats"]} == {16.0}


def test_a_shorter_unmatched_rows_are_held_to_the_end(run):
    _, composer = run(conditions=("shuffled",))
    # b (1.4 s) sees c (1.2 s): its last row stays.
    values = composer.requests[1].conditioning["flow"].values[:, 0]
    assert values[0] == pytest.approx(3.0) and values[-1] == pytest.approx(3.5) and values[-3] == pytest.approx(3.5)


def test_takes_have_seeds_of_their_own_and_other_unmatched(run):
    result, composer = run(conditions=("shuffled",), seeds=2, first_seed=7)
    assert [request.seed for request in composer.requests] == [7] * 3 + [8] * 3
    first, second = composer.requests[0], composer.requests[3]
    assert seen_by(first)["face"] == 2 and seen_by(second)["face"] == 3
    assert result.rows[0].cues == 6 and result.settings["seeds"] == [7, 8] and result.baseline is None


def test_a_recipe_that_lets_the_picture_steer_nothing_is_taken_apart_with_the_default_weight(tmp_path):
    recipe = tmp_path / "unseeing.toml"
    recipe.write_text("[generate]\nvisual_guidance = 0\n")
    assert [v.recipe.generate.visual_guidance for v in plan_variants(Plan(["x"], recipe=str(recipe)))] == [1.5] * 6


def test_guidances_are_tried_with_each_other_and_once_for_what_sees_nothing():
    names = [v.name for v in plan_variants(Plan(["x"], conditions=("both", "text"), visual_guidances=(1, 3)))]
    assert names == ["text", "both, visual 1", "both, visual 3"]
    variants = plan_variants(Plan(["x"], conditions=("both", "text"), visual_guidances=(1, 3), guidances=(2, 4)))
    assert len(variants) == 2 + 4 and variants[-1].name == "both, text 4, visual 3"
    assert (variants[-1].recipe.generate.guidance, variants[-1].recipe.generate.visual_guidance) == (4, 3)


@pytest.mark.parametrize(
    ("facts", "wanted"),
    [
        ({"conditions": ("bot",)}, "did you mean 'both'"),
        ({"conditions": ()}, "names none"),
        ({"visual_guidances": (99.0,)}, "from 0 to 20"),
        ({"recipe": "cinematik"}, "did you mean 'cinematic'"),
    ],
)
def test_wrong_plans_are_refused_before_any_work(facts, wanted):
    with pytest.raises(UsageError, match=wanted):
        plan_variants(Plan(["x"], **facts))


def test_a_single_clip_has_no_stranger_and_is_told_so(clip_folder, looked):
    composer = SeeingComposer()
    result = ablation.ablate(Plan(clips=[clip_folder / "a.mp4"]), MUTED, lambda: composer)
    assert "shuffled" not in [row.name for row in result.rows] and any(
        "shuffled is left out" in n for n in result.notes
    )
    with pytest.raises(UsageError, match="no condition is left"):
        ablation.ablate(Plan(clips=[clip_folder / "a.mp4"], conditions=("shuffled",)), MUTED, lambda: composer)


def test_a_model_that_sees_nothing_says_so(clip_folder, looked):
    composer = SeeingComposer()
    composer.streams = ("pose",)
    result = ablation.ablate(Plan(clips=[clip_folder]), MUTED, lambda: composer)
    assert any(note.startswith("face: fake reads none of face: only the tempo") for note in result.notes)


def test_words_and_quality_are_measured_and_music_is_kept(run, tmp_path):
    prompts = tmp_path / "prompts.json"
    prompts.write_text('{"a": "strings at 90 bpm"}')
    options = MeasureOptions(("quality", "text"), baselines=False)
    plan = {"conditions": ("text", "both"), "prompts": prompts, "prompt": "rain", "keep": tmp_path / "kept", "seeds": 2}
    result, composer = run(options, **plan)
    assert composer.composed.count("strings at 90 bpm") == 4 and composer.composed.count("rain") == 8
    both = result.rows[1].figures
    # This composer makes the same of all it sees, so nothing lies between the two.
    assert both["spectrum"].value == 0 and list(both["tempo"].by_clip) == ["a"]
    assert result.settings["reference"] == "text", "quality is held to the text-only takes"
    kept = sorted(str(p.relative_to(tmp_path / "kept")) for p in (tmp_path / "kept").rglob("*.flac"))
    assert len(kept) == 12 and kept[0] == "both-take2/a.flac" and "text/c.flac" in kept
    assert read_sound(tmp_path / "kept" / "text" / "b.flac", 48_000).shape[1] == pytest.approx(1.4 * 48_000, abs=64)


def test_unreadable_clips_are_left_out_and_told(run, clip_folder):
    (clip_folder / "d.mp4").write_text("no video")
    result, _ = run(conditions=("text",))
    assert result.exit_code == 1 and len(result.failures) == 1 and len(result.rows[0].clips) == 3


def test_motion_is_that_of_flow_whatever_the_condition_sees(run):
    result, _ = run(conditions=("face",))
    assert result.settings["motion"] == ["flow 1, energy"] and measuring.PLAIN not in result.settings["motion"]
