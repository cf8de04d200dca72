"""The plan that a piece would have followed is found in its notes."""

from __future__ import annotations

import numpy as np

from expotion_cli.music.codecs.notes.tokens import Event, chord_value, events_to_tokens
from expotion_cli.training.mini.corpus.arranger import compose
from expotion_cli.training.mini.plan_from_music import BAR, hit_points, onset_weights, plan_of, section_starts

BEAT = 12


def groove(bars: int, every: int = 6) -> dict[str, list[Event]]:
    steps = bars * BAR
    return {
        "percussion": [Event(s, s + 1, 1, 1) for s in range(0, steps, every)],
        "drums": [Event(s, s + 1, 1 if s % 24 == 0 else 2, 2) for s in range(0, steps, BEAT)],
        "bass": [Event(s, s + 6, 36, 1) for s in range(0, steps, BEAT)],
        "melody": [Event(s, s + 12, 72, 1) for s in range(0, steps, 2 * BEAT)],
    }


def with_hit(events: dict[str, list[Event]], step: int, gap: int = 0) -> dict[str, list[Event]]:
    """A stab of everybody with a crash, after a gap."""
    kept = {v: [e for e in row if not step - gap <= e.start <= step] for v, row in events.items()}
    stab = {
        "drums": (17, 3),
        "bass": (36, 3),
        "melody": (79, 3),
        "figure": (60, 3),
        "harmony": (chord_value(5, "maj"), 1),
    }
    return {v: [*kept.get(v, []), *([Event(step, step + 12, *stab[v])] if v in stab else [])] for v in {*kept, *stab}}


def test_an_even_groove_has_even_intensity_and_no_hit_points():
    plan = plan_of(events_to_tokens(groove(8), 8 * BAR), 100)
    assert plan.hits == () and plan.sections == (0,)
    assert len(plan.intensity) == 8 and np.abs(plan.intensity - 0.5).max() < 0.15


def test_a_stab_after_a_gap_is_a_hit_point_and_the_heavier_for_its_crash():
    stab = 4 * BAR + 2 * BEAT
    tokens = events_to_tokens(with_hit(groove(8), stab, gap=9), 8 * BAR)
    ((step, weight),) = plan_of(tokens, 100).hits
    assert step == stab and weight > 0.5


def test_hit_points_lie_about_a_second_apart():
    events = groove(8)
    for step in (2 * BAR, 2 * BAR + 12, 2 * BAR + 24, 5 * BAR, 5 * BAR + 18):
        events = with_hit(events, step)
    tokens = events_to_tokens(events, 8 * BAR)
    for tempo in (60, 120):
        steps = [step for step, _ in hit_points(tokens, onset_weights(tokens), tempo)]
        assert len(steps) >= 2 and steps == sorted(steps) and np.diff(steps).min() >= 0.9 * tempo / 60 * BEAT - 1


def test_intensity_rises_where_more_is_played():
    calm, busy = groove(8), groove(16, every=3)
    events = {v: [*row, *(e for e in busy[v] if e.start >= 8 * BAR)] for v, row in calm.items()}
    events["figure"] = [Event(s, s + 3, 60, 2) for s in range(8 * BAR, 16 * BAR, 3)]
    tokens = events_to_tokens(events, 16 * BAR)
    plan = plan_of(tokens, 100)
    assert plan.intensity[9:].min() > plan.intensity[:7].max() + 0.4
    assert section_starts(tokens) == (0, 8 * BAR)


def test_strong_accents_of_composed_pieces_are_found():
    found, total = 0, 0
    for seed in range(24):
        piece = compose(np.random.default_rng(seed), follow="groove")
        hits = {step for step, _ in plan_of(piece.tokens, piece.attributes["tempo_bpm"]).hits}
        strong = {step for step, weight in piece.profile.accents.items() if weight > 0.8}
        found, total = found + len(hits & strong), total + len(strong)
    assert total > 30 and found / total > 0.6


def test_a_groove_never_falls_still():
    for seed in range(12):
        piece = compose(np.random.default_rng(seed), follow="groove")
        bars = (piece.tokens[1:, :-BAR] >= 2).sum(axis=0).reshape(-1, BAR).sum(axis=1)
        assert np.median(bars) > 3 and (bars == 0).mean() < 0.1
        assert min(piece.profile.energy[:-8]) >= 0.24 and not any(piece.profile.mute)
