"""Style and the tagger's distances: known answers, chance levels, the reference that ships, ratios to a baseline."""

from __future__ import annotations

import json
import math
from types import SimpleNamespace

import numpy as np
import pytest

from expotion_cli.errors import WeightsError
from expotion_cli.evaluation import distributions, page, report, tag_measures
from expotion_cli.evaluation.outputs import SAMPLE_RATE, Cue, MusicSet, Output, read_cue
from expotion_cli.evaluation.results import BY_KEY, Evaluation, Figure, Row, compare_with_baseline
from expotion_cli.evaluation.tag_measures import NO_TAGS, TagMeasures, shipped_reference
from expotion_cli.recipe import load_recipe, recipe_names
from expotion_cli.tagging.tagger import Heard, style
from expotion_cli.tags import TAGS

HARP, METAL = TAGS.index("harp"), TAGS.index("metal")


def cue(clip: str, *, tags: tuple[str, ...] = ("harp",), loud: bool = True) -> Cue:
    return Cue(clip, np.full((2, SAMPLE_RATE), 0.1 if loud else 0, np.float32), tags=tags)


def heard(seed: int, *, harp: float = 0.5, shift: float = 0.0, windows: int = 7) -> Heard:
    rng = np.random.default_rng(seed)
    probabilities = rng.uniform(0, 0.1, (windows, 50)).astype(np.float32)
    probabilities[:, HARP] = harp
    return Heard(probabilities, rng.normal(shift, 1, (windows, 200)).astype(np.float32))


def measures(answers: dict[str, Heard], reference: MusicSet | None = None) -> TagMeasures:
    """Measures with a tagger that answers by the clip's name."""
    return TagMeasures(0, reference, lambda kind, one, make: answers[one.clip])


@pytest.fixture
def no_tagger(monkeypatch):
    monkeypatch.setattr(tag_measures, "Tagger", lambda: SimpleNamespace(identity="made"))


def test_the_shipped_reference_holds_two_excerpts_of_nearly_every_piece():
    found = shipped_reference()
    assert len(found.tags) == len(found.embeddings) > 100 and found.name == "Freedoom (shipped)"
    assert {rows.shape for rows in found.embeddings} == {(7, 200)} and {rows.shape for rows in found.tags} == {(50,)}
    assert all(np.isfinite(rows).all() for rows in (*found.embeddings, *found.tags))
    mean = np.mean(found.tags, axis=0)
    assert 0 < mean.min() and mean.max() < 1, "probabilities"


def test_a_damaged_reference_leaves_the_figures_out_with_the_reason(monkeypatch, no_tagger):
    def damaged():
        raise WeightsError("This file of musicnn is damaged.")

    monkeypatch.setattr(tag_measures, "shipped_reference", damaged)
    found = measures({"a": heard(0)})
    assert "damaged" in found.style([cue("a")]).missing
    assert {"damaged" in figure.missing for figure in found.distances([cue("a")]).values()} == {True}


def test_music_like_the_shipped_reference_lies_no_further_from_it_than_chance(no_tagger):
    kept = shipped_reference()
    # One excerpt of each of twelve pieces, as if they were made for twelve clips.
    answers = {f"clip-{n}": Heard(kept.tags[n * 7][None], kept.embeddings[n * 7]) for n in range(12)}
    figures = measures(answers).distances([cue(name) for name in answers])
    for key in ("fad_musicnn", "kl_musicnn"):
        figure = figures[key]
        assert figure.value < 1.4 * figure.chance, key
        assert figure.interval[0] <= figure.interval[1] and figure.interval[1] > figure.value * 0.9
    far = {name: Heard(np.roll(one.probabilities, 7, axis=1), one.embeddings + 2) for name, one in answers.items()}
    others = measures(far).distances([cue(name) for name in far])
    assert all(others[key].value > 3 * figures[key].chance for key in figures)


def test_a_named_reference_takes_the_place_of_the_shipped_one(no_tagger):
    answers = {f"clip-{n}": heard(n) for n in range(6)} | {f"theirs-{n}": heard(50 + n) for n in range(6)}
    theirs = MusicSet("theirs", tuple(cue(f"theirs-{n}") for n in range(6)))
    found = measures(answers, theirs)
    own = [cue(f"clip-{n}") for n in range(6)]
    near = found.distances(own)
    assert found.reference_name == "theirs"
    assert near["kl_musicnn"].value < 0.05 and near["fad_musicnn"].chance is not None
    apart = measures(answers | {c.clip: heard(n, shift=3) for n, c in enumerate(own)}, theirs).distances(own)
    assert apart["fad_musicnn"].value - near["fad_musicnn"].value == pytest.approx(9 * 200, rel=0.1)


def test_too_little_sound_has_no_covariance_and_a_silent_reference_no_distance(no_tagger):
    one = {"a": heard(0, windows=2)}
    assert "covariance" in measures(one).distances([cue("a")])["fad_musicnn"].missing
    silent = MusicSet("silent", (cue("a", loud=False),))
    assert "silent" in measures(one, silent).distances([cue("a")])["kl_musicnn"].missing


def test_style_is_the_probability_of_the_cues_own_tags_beside_the_references(no_tagger):
    answers = {f"clip-{n}": heard(n, harp=0.4 + 0.1 * n) for n in range(5)}
    figure = measures(answers).style([cue(name) for name in answers])
    usual = style(np.stack(shipped_reference().tags), ["harp"])
    assert figure.value == pytest.approx(0.6) and figure.chance == pytest.approx(usual)
    assert figure.lift == pytest.approx(0.6 - usual) and figure.lift_interval[0] > 0
    assert figure.by_clip == pytest.approx({f"clip-{n}": 0.4 + 0.1 * n for n in range(5)})


def test_style_takes_each_cue_by_its_own_tags_and_needs_some(no_tagger):
    answers = {"a": heard(0, harp=0.9), "b": heard(1, harp=0.9), "c": heard(2)}
    figure = measures(answers).style([cue("a"), cue("b", tags=("metal",)), cue("c", tags=())])
    assert figure.by_clip["a"] == pytest.approx(0.9) and figure.by_clip["b"] < 0.1 and len(figure.by_clip) == 2
    assert measures(answers).style([cue("c", tags=())]).missing == NO_TAGS


def rows(**values: tuple[float, ...]) -> tuple[Row, ...]:
    names = [f"clip-{n}" for n in range(len(next(iter(values.values()))))]
    figures = {key: Figure(float(np.mean(v)), by_clip=dict(zip(names, v, strict=True))) for key, v in values.items()}
    return tuple(Row(name, "outputs", tuple(names), len(names), {"style": f}) for name, f in figures.items())


def test_a_baseline_is_compared_by_the_ratio_of_styles_everywhere_it_is_told():
    made = compare_with_baseline(rows(seeing=(0.4, 0.5, 0.6), blind=(0.5, 0.6, 0.7)), "blind", seed=0)
    against = made[0].figures["style"].against
    assert against["ratio"] == pytest.approx(1.5 / 1.8) and against["clips"] == 3
    assert against["interval"][0] <= against["ratio"] <= against["interval"][1] < 1
    result = Evaluation(made, {}, {}, baseline="blind")
    assert "×0.83* (×0.80 to ×0.86)" in report.text(result) and "ratio of the means" in report.text(result)
    assert "×0.83*" in page.page(result, "Evaluation")
    record = json.loads(json.dumps(report.as_record(result)))
    assert record["sets"][0]["figures"]["style"]["against_baseline"]["ratio"] == 0.8333
    assert record["metrics"]["style"]["about"] == BY_KEY["style"].about


def test_a_ratio_needs_a_baseline_that_has_any_style_and_two_clips_give_no_interval():
    assert compare_with_baseline(rows(a=(0.4,), b=(0.0,)), "b", seed=0)[0].figures["style"].against is None
    against = compare_with_baseline(rows(a=(0.4, 0.2), b=(0.5, 0.3)), "b", seed=0)[0].figures["style"].against
    assert against["ratio"] == pytest.approx(0.75) and against["interval"] is None


@pytest.mark.parametrize(
    ("sidecar", "tags"),
    [
        ({"recipe": {"name": "mine", "tags": ["sitar", "slow"]}}, ("sitar", "slow")),
        ({"recipe": {"name": "cinematic"}, "prompt": "harp"}, load_recipe("cinematic").tags),
        ({"recipe": {"name": "mine", "tags": []}, "prompt": "slow harp, no drums"}, ("slow", "harp")),
        ({"recipe": {"name": "mine", "tags": ["jazz"]}}, ("piano",)),
        ({"recipe": "?", "prompt": 3}, ("piano",)),
        (None, ("piano",)),
    ],
)
def test_a_cue_has_the_tags_of_its_recipe_else_those_of_its_prompt(tmp_path, sidecar, tags):
    import wave
    from fractions import Fraction

    with wave.open(str(tmp_path / "a.wav"), "wb") as file:
        file.setparams((1, 2, SAMPLE_RATE, 0, "NONE", "not compressed"))
        file.writeframes(b"\1\2" * SAMPLE_RATE)
    if sidecar is not None:
        (tmp_path / "a.score.json").write_text(json.dumps(sidecar))
    info = SimpleNamespace(duration=Fraction(1), start=Fraction(0), path=tmp_path / "a.mp4")
    assert read_cue(Output("a", tmp_path / "a.wav"), info, prompt="jazz piano")[0].tags == tags


@pytest.mark.parametrize("name", recipe_names())
def test_every_shipped_recipe_has_tags_by_which_it_can_be_told(name):
    assert set(load_recipe(name).tags) <= set(TAGS)
    usual = style(np.stack(shipped_reference().tags), load_recipe(name).tags)
    assert 0.01 < usual < 0.5 and math.isfinite(usual)


def test_chance_compares_as_many_items_as_asked_for_with_the_others():
    sizes = []
    distributions.to_itself(range(10), lambda a, b: sizes.append((len(a), len(b))) or 1.0, 0, count=3)
    distributions.to_itself(range(10), lambda a, b: sizes.append((len(a), len(b))) or 1.0, 0, count=30)
    assert set(sizes) == {(3, 7), (5, 5)}
