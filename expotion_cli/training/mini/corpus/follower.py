"""One piece that follows a motion curve: planned as any other, its voices struck by the curve."""

from __future__ import annotations

from random import Random

import numpy as np

from expotion_cli.music.codecs.notes import tokens as notes
from expotion_cli.training.mini.corpus import strikes as writing
from expotion_cli.training.mini.corpus import theory
from expotion_cli.training.mini.corpus.arranger import LENGTHS, LICENCE, Piece, end, fit_ranges, plan
from expotion_cli.training.mini.corpus.describe import describe
from expotion_cli.training.mini.corpus.draft import BAR, Draft
from expotion_cli.training.mini.corpus.gesture import HALF_BEAT, Gesture
from expotion_cli.training.mini.corpus.motion import draw_motion, smooth
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
    """Compose one piece on a motion curve.

    Args:
        rng: the only source of chance.
        style: a name of `styles.STYLES`; drawn if not given.
        curve: [S] to be followed, silence after its end up to a whole form; drawn if not given.
        tempo_bpm: of the piece; drawn from the style's range if not given.
    """
    r = Random(int(rng.integers(1 << 62)))
    name = style if style is not None else theory.weighted(r, FOLLOWING_STYLES)
    habits = STYLES[name]
    mode = r.choice(habits.modes)
    feel = "straight" if r.random() < 0.8 else r.choice(habits.feels)
    low, high = habits.tempo
    tempo = round(
        tempo_bpm if tempo_bpm is not None else r.uniform(1.1 * low, 1.15 * high)
    )  # strikes need a grid that is not too wide
    if curve is None:
        num_bars = r.choice(LENGTHS)
        curve = draw_motion(rng, num_bars * BAR, tempo)
    else:
        num_bars = next((n for n in sorted(set(LENGTHS)) if n * BAR >= len(curve) + BAR), max(LENGTHS))
        curve = np.pad(curve, (0, max(0, num_bars * BAR - len(curve))))[: num_bars * BAR]
    coarse = curve.reshape(-1, HALF_BEAT).mean(axis=1)
    gesture = Gesture(list(map(float, coarse)), [False] * len(coarse), {}, 1.0)
    draft = Draft(r, habits, mode, feel, num_bars, gesture)
    draft.energy = list(gesture.energy)
    plan(draft, name)
    found = writing.Strikes.find(curve, feel, draft.body_steps)
    writing.settle_chords(draft, found)
    sounds = _write_voices(draft, name, found)
    end(draft, sounds)
    _write_dynamics(draft, curve)
    fit_ranges(draft)
    tokens = draft.tokens()
    attributes = describe(r, name, mode, feel, tempo, gesture, draft.energy, tokens, sounds)
    return Piece(tokens, attributes, source="composed", licence=LICENCE, gesture=gesture, motion=curve)


def _write_voices(draft: Draft, name: str, found: writing.Strikes) -> dict[str, str]:
    """Strike all voices; returns voice → instrument of those that sound."""
    r, habits = draft.r, draft.style
    instruments = dict(r.choice(habits.sets))
    manners = {v: r.choice(getattr(habits, v)) for v in ("harmony", "bass", "figure", "melody", "drums", "counter")}
    for voice in manners:
        if voice not in instruments:
            manners[voice] = "none"
    struck = manners["drums"] != "none"
    if manners["figure"] == "none" and "figure" in instruments and (not struck or r.random() < 0.6):
        manners["figure"] = "bells" if name == "ambient" else "arp_up"  # somebody must strike
    if "harmony" in instruments and r.random() < 0.8:
        manners["harmony"] = r.choice(("pad", "pad", "halves"))  # what is held is what can swell
    article = r.choice(habits.article)
    writing.strike_harmony(draft, found, manners["harmony"])
    writing.strike_bass(draft, found, manners["bass"])
    writing.strike_figure(draft, found, manners["figure"], article)
    if manners["melody"] != "none":
        writing.strike_melody(draft, found, r.uniform(*habits.busy))
    writing.strike_counter(draft, found, manners["counter"])
    drums = r.random() < 0.93
    writing.strike_drums(draft, found, manners["drums"], drums, not drums or r.random() < 0.9)
    return {voice: instruments.get(voice, "drums") for voice, row in draft.voices.items() if row}


def _write_dynamics(draft: Draft, curve: np.ndarray) -> None:
    """The level swells with the curve, on sixteenths, without small wavering."""
    wanted = (notes.DYNAMIC_LEVELS - 1) * np.clip(smooth(curve, 1.5), 0, 1)
    level, row = -9.0, draft.voices["dynamics"]
    for step in range(0, draft.body_steps, _DYNAMICS_GRID):
        if abs(wanted[step] - level) > _LEAST_CHANGE:
            level = round(float(wanted[step]))
            row[step] = [0, int(level), 0]
