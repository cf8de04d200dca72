"""Composes a piece that follows a motion curve: planned like any other, with onsets where the curve rises."""

from __future__ import annotations

from random import Random

import numpy as np

from expotion_cli.music.codecs.notes import tokens as notes
from expotion_cli.training.mini.corpus import following_voices, theory
from expotion_cli.training.mini.corpus.arrangement import BAR, Arrangement
from expotion_cli.training.mini.corpus.arranger import end, fit_ranges
from expotion_cli.training.mini.corpus.describe import describe
from expotion_cli.training.mini.corpus.energy import HALF_BEAT, EnergyProfile
from expotion_cli.training.mini.corpus.form import LENGTHS, plan
from expotion_cli.training.mini.corpus.motion import draw_motion, smooth
from expotion_cli.training.mini.corpus.piece import LICENCE, Piece
from expotion_cli.training.mini.corpus.styles import STYLES

FOLLOWING_STYLES = {
    "cinematic": 2.2, "ambient": 1.4, "electronic": 1.6, "lofi": 1.4, "jazz": 0.8, "classical": 1.6, "pop": 1.2,
    "comedy": 0.8, "suspense": 1.0,
}  # fmt: skip
_DYNAMICS_GRID, _LEAST_CHANGE = 3, 0.6


def compose_following(
    rng: np.random.Generator,
    style: str | None = None,
    *,
    curve: np.ndarray | None = None,
    tempo_bpm: float | None = None,
) -> Piece:
    """Compose a piece on a motion curve.

    Args:
        rng: the only source of randomness.
        style: a key of `styles.STYLES`; drawn by default.
        curve: [S] motion to follow, 0..1.3; the piece is silent from its end to the end of the form. Drawn by default.
        tempo_bpm: of the piece; drawn from the style's range by default.
    """
    r = Random(int(rng.integers(1 << 62)))
    name = style if style is not None else theory.weighted(r, FOLLOWING_STYLES)
    habits = STYLES[name]
    mode = r.choice(habits.modes)
    feel = "straight" if r.random() < 0.8 else r.choice(habits.feels)
    low, high = habits.tempo
    # Onsets need a fine grid, so the tempo is a little faster than the style's.
    tempo = round(tempo_bpm if tempo_bpm is not None else r.uniform(1.1 * low, 1.15 * high))
    if curve is None:
        num_bars = r.choice(LENGTHS)
        curve = draw_motion(rng, num_bars * BAR, tempo)
    else:
        num_bars = next((n for n in sorted(set(LENGTHS)) if n * BAR >= len(curve) + BAR), max(LENGTHS))
        curve = np.pad(curve, (0, max(0, num_bars * BAR - len(curve))))[: num_bars * BAR]
    coarse = curve.reshape(-1, HALF_BEAT).mean(axis=1)
    profile = EnergyProfile(list(map(float, coarse)), [False] * len(coarse), {}, 1.0)
    arrangement = Arrangement(r, habits, mode, feel, num_bars, profile)
    arrangement.energy = list(profile.energy)
    plan(arrangement, name)
    grid = following_voices.OnsetGrid.find(curve, feel, arrangement.body_steps)
    following_voices.delay_chord_changes(arrangement, grid)
    sounds = _write_voices(arrangement, name, grid)
    end(arrangement, sounds)
    _write_dynamics(arrangement, curve)
    fit_ranges(arrangement)
    tokens = arrangement.tokens()
    attributes = describe(r, name, mode, feel, tempo, profile, arrangement.energy, tokens, sounds)
    return Piece(tokens, attributes, source="composed", licence=LICENCE, profile=profile, motion=curve)


def _write_voices(arrangement: Arrangement, name: str, grid: following_voices.OnsetGrid) -> dict[str, str]:
    """Write all voices; returns voice → instrument for those that sound."""
    r, habits = arrangement.r, arrangement.style
    instruments = dict(r.choice(habits.sets))
    manners = {v: r.choice(getattr(habits, v)) for v in ("harmony", "bass", "figure", "melody", "drums", "counter")}
    for voice in manners:
        if voice not in instruments:
            manners[voice] = "none"
    has_drums = manners["drums"] != "none"
    if manners["figure"] == "none" and "figure" in instruments and (not has_drums or r.random() < 0.6):
        manners["figure"] = "bells" if name == "ambient" else "arp_up"  # some voice must follow
    if "harmony" in instruments and r.random() < 0.8:
        manners["harmony"] = r.choice(("pad", "pad", "halves"))  # held chords can swell
    articulation = r.choice(habits.articulation)
    following_voices.follow_harmony(arrangement, grid, manners["harmony"])
    following_voices.follow_bass(arrangement, grid, manners["bass"])
    following_voices.follow_figure(arrangement, grid, manners["figure"], articulation)
    if manners["melody"] != "none":
        following_voices.follow_melody(arrangement, grid, r.uniform(*habits.busy))
    following_voices.follow_counter(arrangement, grid, manners["counter"])
    drums = r.random() < 0.93
    following_voices.follow_drums(arrangement, grid, manners["drums"], drums, not drums or r.random() < 0.9)
    return {voice: instruments.get(voice, "drums") for voice, row in arrangement.voices.items() if row}


def _write_dynamics(arrangement: Arrangement, curve: np.ndarray) -> None:
    """Dynamics follow the curve, on sixteenths, with small changes left out."""
    wanted = (notes.DYNAMIC_LEVELS - 1) * np.clip(smooth(curve, 1.5), 0, 1)
    level, row = -9.0, arrangement.voices["dynamics"]
    for step in range(0, arrangement.body_steps, _DYNAMICS_GRID):
        if abs(wanted[step] - level) > _LEAST_CHANGE:
            level = round(float(wanted[step]))
            row[step] = [0, int(level), 0]
