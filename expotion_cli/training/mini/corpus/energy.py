"""Random energy profiles that drive composed pieces: a curve of energy, accents, and stretches of stillness.

They give the training music every kind of local density, stillness and irregular accent that a person in a video may
ask for later.
"""

from __future__ import annotations

import itertools
import math
from dataclasses import dataclass, field
from random import Random

HALF_BEAT = 6
"""Steps that one energy value stands for."""
STILL = 0.06
"""Energy up to which no note starts."""
LEAST_GROOVE = 0.24
"""Energy below which a groove never falls."""
_BAR_VALUES = 8


@dataclass
class EnergyProfile:
    """Energy and accents of a piece.

    Attributes:
        energy: 0..1, one value for each half beat.
        mute: True where even held notes stop, one value for each half beat.
        accents: step → strength 0..1.
        follow: how closely the arrangement follows, from 0 (not at all) to 1.
    """

    energy: list[float]
    mute: list[bool]
    accents: dict[int, float] = field(default_factory=dict)
    follow: float = 1.0


def draw_energy_profile(r: Random, num_beats: int, follow: float, lift: float = 0.0) -> EnergyProfile:
    """Draw a random energy profile.

    Args:
        r: source of randomness.
        num_beats: length in beats.
        follow: stored in the result.
        lift: added to the energy wherever it is not still; a style's usual level.
    """
    length = 2 * num_beats
    family = r.choice(("rising", "falling", "steady", "waves", "waves", "bursts", "blocks", "blocks", "beats", "arch"))
    energy = _curve(r, family, num_beats)
    energy = [min(max(e + lift, 0.1), 1.0) for e in energy]
    jitter = r.choice((0.0, 0.03, 0.03, 0.08, 0.15))
    for i in range(0, length, 2):
        change = r.gauss(0, jitter)
        for j in (i, i + 1):
            energy[j] = min(max(energy[j] + change, 0.08), 1.0)
    mute = [False] * length
    if r.random() < 0.5:
        _sudden(r, energy, num_beats, per_beats=32, spans=(2, 8), factor=(0.15, 0.45))
    if r.random() < 0.4:
        _sudden(r, energy, num_beats, per_beats=32, spans=(1, 5), factor=(1.5, 3.0))
    if r.random() < 0.55:
        silent = r.choice((0.0, 0.5, 1.0))
        for _ in range(max(1, round(r.uniform(0.5, 1.5) * num_beats / 32))):
            start = 2 * r.randrange(2, max(3, num_beats - 8)) + (r.random() < 0.15)
            stop = min(start + r.choice((2, 2, 3, 4, 4, 6, 8, 8, 12, 16)), length - 12)
            stop_all = r.random() < silent
            for i in range(start, stop):
                energy[i] = r.uniform(0, STILL)
                mute[i] = stop_all
    profile = EnergyProfile(energy=energy, mute=mute, follow=follow)
    profile.accents = _accents(r, profile, num_beats)
    return profile


def groove_energy_profile(r: Random, num_beats: int, lift: float = 0.0) -> EnergyProfile:
    """Draw a profile for a groove that goes on: energy changes from bar to bar and never falls still; few accents.

    Args:
        r: source of randomness.
        num_beats: length in beats.
        lift: added to the energy; a style's usual level.
    """
    family = r.choice(("rising", "falling", "steady", "waves", "waves", "blocks", "blocks", "arch"))
    curve = _curve(r, family, num_beats)
    energy: list[float] = []
    for start in range(0, len(curve), _BAR_VALUES):
        bar = curve[start : start + _BAR_VALUES]
        mean = LEAST_GROOVE + (1 - LEAST_GROOVE) * sum(bar) / len(bar)
        energy += [min(max(mean + 0.6 * lift, LEAST_GROOVE), 1.0)] * len(bar)
    accents: dict[int, float] = {}
    if r.random() < 0.85:
        often = r.choice(((2, 3, 4, 4, 6, 8), (4, 6, 8, 8, 12), (8, 12, 16, 16)))
        beat = r.randrange(0, 8)
        while beat < num_beats - 4:
            accents[12 * beat + r.choice((0, 0, 0, 0, 0, 0, 6, 6, 3, 9))] = r.uniform(0.4, 1.0)
            beat += r.choice(often)
    return EnergyProfile(energy, [False] * len(energy), accents, 1.0)


def steady_energy_profile(r: Random, num_beats: int, lift: float = 0.0) -> EnergyProfile:
    """Draw a profile for music that follows nothing: nearly even energy in a slow wave, and no accents."""
    base = min(max(r.uniform(0.35, 0.7) + lift, 0.2), 0.9)
    depth, period, phase = r.uniform(0, 0.12), r.choice((32, 64, 128)), r.random() * 6.3
    energy = [
        min(max(base + depth * math.sin(phase + 2 * math.pi * (i // 16) * 16 / (2 * period)), 0.15), 0.95)
        for i in range(2 * num_beats)
    ]
    return EnergyProfile(energy=energy, mute=[False] * (2 * num_beats), follow=0.0)


def _curve(r: Random, family: str, num_beats: int) -> list[float]:
    length = 2 * num_beats
    if family == "blocks":
        curve: list[float] = []
        level = r.random()
        while len(curve) < length:
            level = (level + r.uniform(0.3, 0.7)) % 1.0
            curve += [0.08 + 0.92 * level] * (2 * r.choice((2, 3, 4, 4, 6, 8, 8, 12, 16)))
        return curve[:length]
    if family == "beats":  # changes every few beats, as a lively conductor's energy does
        curve = []
        high = r.random() < 0.5
        while len(curve) < length:
            level = r.uniform(0.6, 1.0) if high else r.uniform(0.08, 0.4)
            curve += [level] * r.choice((1, 2, 2, 2, 3, 4, 4, 6))
            high = not high
        return curve[:length]
    if family == "bursts":
        level = r.uniform(0.12, 0.35)
        curve = [level] * length
        position = r.randrange(2, 10)
        while position < length:
            size = r.choice((1, 2, 2, 3, 4, 6, 8))
            peak = r.uniform(0.7, 1.0)
            for i in range(position, min(position + size, length)):
                curve[i] = peak
            position += size + r.choice((4, 6, 8, 10, 14, 16, 22, 32))
        return curve
    points = [(0, r.uniform(0.1, 0.9))]
    while points[-1][0] < length:
        position = points[-1][0] + 2 * r.choice((3, 4, 6, 8, 8, 12, 16))
        points.append((position, r.random()))
    trend = {
        "rising": lambda t: 0.12 + 0.8 * t,
        "falling": lambda t: 0.92 - 0.8 * t,
        "arch": lambda t: 0.15 + 0.8 * math.sin(math.pi * t),
    }.get(family)
    if trend is not None:
        rough = r.choice((0.0, 0.2, 0.4))
        points = [(p, trend(min(p / length, 1.0)) + rough * (v - 0.5)) for p, v in points]
    elif family == "steady":
        base = r.uniform(0.2, 0.85)
        points = [(p, base + 0.12 * (v - 0.5)) for p, v in points]
    curve = []
    for (p0, v0), (p1, v1) in itertools.pairwise(points):
        for i in range(p0, min(p1, length)):
            x = (i - p0) / (p1 - p0)
            curve.append(v0 + (v1 - v0) * x * x * (3 - 2 * x))
    return curve


def _sudden(
    r: Random, energy: list[float], num_beats: int, per_beats: int, spans: tuple[int, int], factor: tuple[float, float]
) -> None:
    for _ in range(max(1, round(r.uniform(0.3, 1.4) * num_beats / per_beats))):
        start = 2 * r.randrange(2, max(3, num_beats - 6))
        times = r.uniform(*factor)
        for i in range(start, min(start + 2 * r.randint(*spans), len(energy))):
            energy[i] = min(max(energy[i] * times, 0.07), 1.0)


def _accents(r: Random, profile: EnergyProfile, num_beats: int) -> dict[int, float]:
    """Accents of all voices together: regular or irregular, on or off the beat, also in stillness."""
    last = 12 * (num_beats - 4)
    accents: dict[int, float] = {}
    manner = r.choice(("none", "regular", "regular", "irregular", "irregular", "irregular", "syncopated", "rises"))
    if manner == "none":
        return accents
    position = 12 * r.randrange(0, 5)
    gap = r.choice((2, 2, 3, 4, 4, 5, 6, 8))
    drift = r.random() < 0.3
    while position < last:
        strength = r.uniform(0.6, 1.0)
        if manner == "regular":
            accents[position] = strength
            position += 12 * gap
            if drift and r.random() < 0.12:
                gap = r.choice((1, 2, 3, 4, 6))
            if r.random() < 0.06:
                position += 12 * r.randint(2, 8)
        elif manner == "irregular":
            accents[position + (r.choice((0, 0, 0, 0, 6, 6, 3, 9)))] = strength
            position += 12 * r.choice((1, 2, 2, 3, 3, 4, 5, 5, 7, 9, 11, 14))
        elif manner == "syncopated":
            offsets = r.choice(((0, 9, 18), (0, 6, 15), (0, 18, 36), (6, 18), (3, 12), (0, 8, 16), (4, 8, 12), (9, 24)))
            for offset in offsets:
                accents[position + offset] = strength
            position += 12 * r.choice((2, 3, 4, 4, 6, 8, 10))
        else:  # "rises": where the energy jumps up
            accents[position] = strength
            position += 12
    if manner == "rises":
        energy = profile.energy
        accents = {6 * i: 0.9 for i in range(1, 2 * num_beats - 8) if energy[i] - energy[i - 1] > 0.22}
    if r.random() < 0.25:  # single accents in stillness
        still = [i for i in range(2, 2 * num_beats - 8) if profile.energy[i] <= STILL]
        for i in r.sample(still, min(len(still), 1 + len(still) // 8)):
            accents[6 * i] = 1.0
    return {step: strength for step, strength in accents.items() if step < last}
