"""Composes a piece by rule from a style and an energy profile: voices, accents, silences, dynamics and ending."""

from __future__ import annotations

from bisect import bisect_right
from random import Random

import numpy as np

from expotion_cli.music.codecs.notes import tokens as notes
from expotion_cli.training.mini.corpus import theory
from expotion_cli.training.mini.corpus.arrangement import BAR, BEAT, Arrangement
from expotion_cli.training.mini.corpus.backing import write_bass, write_figure, write_harmony
from expotion_cli.training.mini.corpus.describe import describe
from expotion_cli.training.mini.corpus.drums import CLAP, CRASH, HIGH, KICK, LOW, SNARE, TAMBOURINE, write_drums
from expotion_cli.training.mini.corpus.energy import (
    HALF_BEAT,
    STILL,
    EnergyProfile,
    draw_energy_profile,
    groove_energy_profile,
    steady_energy_profile,
)
from expotion_cli.training.mini.corpus.form import LENGTHS, plan
from expotion_cli.training.mini.corpus.melody import write_counter, write_melody
from expotion_cli.training.mini.corpus.piece import LICENCE, Piece
from expotion_cli.training.mini.corpus.styles import STYLE_WEIGHTS, STYLES

_PITCHED = ("bass", "figure", "melody", "counter")


def compose(rng: np.random.Generator, style: str | None = None, follow: str | None = None) -> Piece:
    """Compose a piece by rule.

    Args:
        rng: the only source of randomness; the same state gives the same piece.
        style: a key of `styles.STYLES`; drawn by default.
        follow: "clear", "loose" or "none": how closely the piece follows its energy profile; "groove": closely, a
            profile without stillness. Drawn from the first three by default.

    Raises:
        KeyError: no such style.
    """
    r = Random(int(rng.integers(1 << 62)))
    name = style if style is not None else theory.weighted(r, STYLE_WEIGHTS)
    habits = STYLES[name]
    mode, feel = r.choice(habits.modes), r.choice(habits.feels)
    num_bars = r.choice(LENGTHS)
    follow = follow or theory.weighted(r, {"clear": 0.6, "loose": 0.2, "none": 0.2})
    strength = {"clear": 1.0, "loose": 0.6, "none": 0.0, "groove": 1.0}[follow]
    if follow == "groove":
        profile = groove_energy_profile(r, 4 * num_bars, habits.lift)
    elif strength:
        profile = draw_energy_profile(r, 4 * num_bars, strength, habits.lift)
    else:
        profile = steady_energy_profile(r, 4 * num_bars, habits.lift)
    arrangement = Arrangement(r, habits, mode, feel, num_bars, _followed(profile))
    plan(arrangement, name)
    sounds = _write_voices(arrangement, name)
    if strength:
        _mute(arrangement)
        _play_accents(arrangement, sounds)
    end(arrangement, sounds)
    _write_dynamics(arrangement)
    fit_ranges(arrangement)
    tokens = arrangement.tokens()
    tempo = round(r.uniform(*habits.tempo))
    attributes = describe(r, name, mode, feel, tempo, profile, arrangement.energy, tokens, sounds)
    return Piece(tokens, attributes, source="composed", licence=LICENCE, profile=profile)


def _followed(profile: EnergyProfile) -> EnergyProfile:
    """The profile as the arrangement follows it: compressed toward the middle if it follows loosely."""
    if profile.follow in (0.0, 1.0):
        return profile
    energy = [e if e <= STILL else 0.5 + profile.follow * (e - 0.5) for e in profile.energy]
    return EnergyProfile(energy, profile.mute, profile.accents, profile.follow)


def _write_voices(arrangement: Arrangement, name: str) -> dict[str, str]:
    """Write all voices; returns voice → instrument for those that sound."""
    r, habits = arrangement.r, arrangement.style
    instruments = dict(r.choice(habits.sets))
    manners = {v: r.choice(getattr(habits, v)) for v in ("harmony", "bass", "figure", "melody", "drums", "counter")}
    for voice in ("harmony", "bass", "figure", "melody", "counter"):
        if voice not in instruments:
            manners[voice] = "none"
    if "drums" not in instruments:
        manners["drums"] = "none"
    if name == "classical" and manners["figure"] == "none" and manners["harmony"] == "none":
        manners["harmony"] = "halves"
    if manners["melody"] == "none" and manners["figure"] == "none":
        manners["figure"] = "arp_slow" if name == "ambient" else "ostinato8"
    busy, articulation = r.uniform(*habits.busy), r.choice(habits.articulation)
    if name == "chorale":
        write_melody(arrangement, "chorale", busy, articulation)
        write_bass(arrangement, "chorale")
        write_harmony(arrangement, manners["harmony"])
        _write_inner_parts(arrangement)
    else:
        write_harmony(arrangement, manners["harmony"])
        write_bass(arrangement, manners["bass"])
        write_figure(arrangement, manners["figure"], articulation)
        write_melody(arrangement, manners["melody"], busy, articulation)
        write_counter(arrangement, manners["counter"])
        drums = r.random() < 0.93
        write_drums(arrangement, manners["drums"], percussion=not drums or r.random() < 0.85, drums=drums)
        if arrangement.num_bars > 16 and r.random() < 0.45:
            _layer(arrangement)
    return {voice: instruments.get(voice, "drums") for voice, row in arrangement.voices.items() if row}


def _layer(arrangement: Arrangement) -> None:
    """Thin the texture: one to three voices rest in the opening section, and one in a middle section."""
    r = arrangement.r
    present = [v for v, row in arrangement.voices.items() if row]
    carrying = "harmony" if "harmony" in present else "figure" if "figure" in present else "melody"
    free = [v for v in present if v != carrying]
    first = arrangement.sections[0]
    inner = r.choice(arrangement.sections[1:-1])
    for section, voices in (
        (first, r.sample(free, min(len(free), r.randint(1, 3)))),
        (inner, r.sample(free, min(1, len(free)))),
    ):
        start, stop = section[0] * BAR, (section[0] + section[1]) * BAR
        for voice in voices:
            row = arrangement.voices[voice]
            if all(start <= s < stop for s in row):
                continue
            for step in [s for s in row if s < stop]:
                if step >= start:
                    del row[step]
                elif row[step][0] > start:
                    row[step][0] = start


def _write_inner_parts(arrangement: Arrangement) -> None:
    """Write alto and tenor of a chorale: the nearest chord tones between soprano and bass, in the soprano's rhythm."""
    alto, tenor = 64, 57
    for start, (end, soprano, velocity) in sorted(arrangement.voices["melody"].items()):
        if start % BEAT:
            continue
        chord = arrangement.chord_at(start)
        missing = [pc for pc in chord.pcs if pc != soprano % 12]
        wanted = tuple(p for p in chord.tones if p % 12 in missing)
        alto = theory.nearest(wanted, min(alto, soprano - 3))
        rest = tuple(p for p in chord.tones if p % 12 != alto % 12) or chord.tones
        tenor = theory.nearest(rest, min(tenor, alto - 3))
        length = max(end - start, BEAT)
        arrangement.note("counter", start, start + length, theory.fold(alto, 53, 76), velocity)
        arrangement.note("figure", start, start + length, theory.fold(tenor, 45, 69), velocity)


def _mute(arrangement: Arrangement) -> None:
    """Cut all notes where the profile mutes them."""
    mute = arrangement.profile.mute
    spans: list[tuple[int, int]] = []
    for i, muted in enumerate(mute):
        if muted and (i == 0 or not mute[i - 1]):
            spans.append((i * HALF_BEAT, i * HALF_BEAT))
        if muted:
            spans[-1] = (spans[-1][0], (i + 1) * HALF_BEAT)
    for first, last in spans:
        for row in arrangement.voices.values():
            for start in [s for s in row if s < last]:
                if start >= first:
                    del row[start]
                elif row[start][0] > first:
                    row[start][0] = first


def _play_accents(arrangement: Arrangement, sounds: dict[str, str]) -> None:
    """Play accents in all voices together, at full velocity; short ones where the music around is still."""
    r = arrangement.r
    parts = {v: r.random() < 0.85 for v in ("harmony", "bass", "figure", "melody", "counter")}
    heavy = r.choice((KICK | CRASH, KICK | CRASH, KICK | SNARE | CRASH, KICK | LOW | HIGH, KICK | LOW))
    light = r.choice((KICK | SNARE, KICK | LOW, SNARE | LOW, KICK))
    clears = r.random() < 0.4
    pitched = {v: sorted(arrangement.voices[v]) for v in _PITCHED}
    for step, strength in sorted(arrangement.profile.accents.items()):
        if step >= arrangement.body_steps:
            continue
        energy = arrangement.at(step)
        chord = arrangement.chord_at(step)
        still = energy < 0.2
        length = r.choice((3, 6, 6, 12)) if still else 9
        for voice, row in arrangement.voices.items():
            if voice not in sounds or voice == "dynamics":
                continue
            for near in (step - 2, step - 1, step + 1, step + 2) + ((step - 3,) if clears else ()):
                row.pop(near, None)
        if "drums" in sounds:
            arrangement.voices["drums"][step] = [step + 1, heavy if strength > 0.75 else light, 3]
        if "percussion" in sounds and (strength > 0.7 or "drums" not in sounds):
            arrangement.hit("percussion", step, r.choice((TAMBOURINE, CLAP)) if strength > 0.9 else 2, 3)
        if "harmony" in sounds and parts["harmony"]:
            row = arrangement.voices["harmony"]
            held = _sounding_until(row, step)
            row[step] = [max(step + length, 0 if still else held), chord.value, 1]
        for voice in _PITCHED:
            if voice not in sounds or not parts[voice]:
                continue
            row = arrangement.voices[voice]
            if voice == "melody" and strength < 0.7 and step not in row:
                continue
            held = _sounding_until(row, step)
            pitch = row[step][1] if step in row else _accent_pitch(pitched[voice], row, step, chord, voice, r)
            row[step] = [max(step + length, held), pitch, 3]


def _sounding_until(row: dict[int, list[int]], step: int) -> int:
    """End of the event that sounds at a step, looking back two bars at most; 0 if there is none."""
    if step in row:
        return row[step][0]
    for back in range(step - 1, max(step - 2 * BAR, -1), -1):
        if back in row:
            return row[back][0] if row[back][0] > step else 0
    return 0


def _accent_pitch(
    starts: list[int], row: dict[int, list[int]], step: int, chord: theory.Chord, voice: str, r: Random
) -> int:
    """A chord tone near the voice's previous note; the root for the bass."""
    near = {"bass": 36, "figure": 62, "melody": 72, "counter": 60}[voice]
    i = bisect_right(starts, step) - 1
    while i >= 0 and starts[i] not in row:
        i -= 1
    if i >= 0:
        near = row[starts[i]][1]
    if voice == "bass":
        low = min(max(near - 6, 26), 44)
        return low + (chord.root - low) % 12
    return theory.nearest(chord.tones, near + (r.choice((2, 3, 5)) if voice == "melody" else 0))


def end(arrangement: Arrangement, sounds: dict[str, str]) -> None:
    """Write the ending: the tonic in the last bar, then rests.

    Args:
        arrangement: its last bar is replaced.
        sounds: voice → instrument for those that sound.
    """
    r = arrangement.r
    start = arrangement.body_steps
    held = r.choice((12, 24, 24, 36)) if arrangement.profile.follow or r.random() < 0.5 else 36
    chord = arrangement.chords[-1]
    loud = arrangement.at(start - HALF_BEAT)
    velocity = min(3, max(0, int(3.4 * loud)))
    for row in arrangement.voices.values():
        for late in [s for s in row if s >= start]:
            del row[late]
        for event in row.values():
            event[0] = min(event[0], start)
    home = theory.degree_chord(theory.tonic(arrangement.mode), arrangement.mode, False)
    if "harmony" in sounds:
        arrangement.note("harmony", start, start + held, chord.value, int(loud > 0.5))
    if "bass" in sounds:
        low = min(arrangement.voices["bass"].values(), key=lambda e: e[1], default=[0, 31, 0])[1]
        low = min(max(low - 3, 24), 40)
        arrangement.note("bass", start, start + held, low + (home.root - low) % 12, velocity)
    for voice, tones in (
        ("melody", home.pcs[:1] * 2 + home.pcs[:2]),
        ("counter", home.pcs[1:]),
        ("figure", home.pcs[:3]),
    ):
        if voice in sounds:
            row = arrangement.voices[voice]
            near = row[max(row)][1] if row else 64
            goal = r.choice(tones)
            pitch = theory.nearest(tuple(p for p in home.tones if p % 12 == goal), near)
            arrangement.note(voice, start, start + held, pitch, velocity)
    if "drums" in sounds and loud > 0.3:
        arrangement.voices["drums"][start] = [start + 1, KICK | (CRASH if loud > 0.5 else 0), velocity]
    arrangement.energy[start // HALF_BEAT :] = [min(loud, 0.6)] * 2 + [0.2] * 2 + [0.0] * 4


def _write_dynamics(arrangement: Arrangement) -> None:
    """Dynamics by half beats, with small changes left out; accents are louder for half a beat."""
    levels: list[int] = []
    level = round(7.49 * arrangement.energy[0])
    for i, value in enumerate(arrangement.energy):
        exact = 7.49 * value
        if abs(exact - level) > 0.6 and (i % 2 == 0 or abs(exact - level) > 1.5):
            level = min(7, max(0, round(exact)))
        levels.append(level)
    steps = [levels[i // HALF_BEAT] for i in range(arrangement.num_steps)]
    if arrangement.profile.follow:
        for step, strength in arrangement.profile.accents.items():
            peak = 4 + round(3 * strength)
            for i in range(step, min(step + HALF_BEAT, arrangement.body_steps)):
                steps[i] = max(steps[i], peak)
    row = arrangement.voices["dynamics"]
    for i, level in enumerate(steps):
        if i == 0 or level != steps[i - 1]:
            row[i] = [0, level, 0]


def fit_ranges(arrangement: Arrangement) -> None:
    """Move pitches outside their voice's range into it by octaves."""
    for voice in notes.VOICES:
        if voice.kind != "pitched":
            continue
        for event in arrangement.voices[voice.name].values():
            event[1] = theory.fold(event[1], voice.base, voice.base + notes.PITCH_RANGE - 1)
