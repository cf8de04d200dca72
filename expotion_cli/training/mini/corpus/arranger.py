"""One piece from style, harmony and gesture: form, voices, accents, stillness and ending."""

from __future__ import annotations

from bisect import bisect_right
from dataclasses import dataclass, field
from random import Random
from typing import Any

import numpy as np

from expotion_cli.music.codecs.notes import tokens as notes
from expotion_cli.training.mini.corpus import theory
from expotion_cli.training.mini.corpus.backing import write_bass, write_figure, write_harmony
from expotion_cli.training.mini.corpus.describe import describe
from expotion_cli.training.mini.corpus.draft import BAR, BEAT, Draft
from expotion_cli.training.mini.corpus.drums import CLAP, CRASH, HIGH, KICK, LOW, SNARE, TAMBOURINE, write_drums
from expotion_cli.training.mini.corpus.gesture import HALF_BEAT, STILL, Gesture, draw_gesture, steady_gesture
from expotion_cli.training.mini.corpus.melody import write_counter, write_melody
from expotion_cli.training.mini.corpus.styles import STYLE_WEIGHTS, STYLES

LICENCE = "own work, same licence as this package"
LENGTHS = (16, 16, 20, 24, 24, 28, 32, 32, 40)
_FORMS = {
    4: ("AABA", "ABAB", "AABB"),
    5: ("AABAC", "ABABC", "AABBA"),
    6: ("AABBAC", "ABACAB", "AABCAB"),
    7: ("AABBCAB", "ABACABA"),
    8: ("AABBAABB", "AABACBAB", "ABACABCC"),
    10: ("AABBCCAABB", "ABACABCABA"),
}
_PITCHED = ("bass", "figure", "melody", "counter")


@dataclass
class Piece:
    """A piece of music as tokens with what is known of it.

    Attributes:
        tokens: [8, S] int16, the token language of `notes`.
        attributes: style, mode, tempo and the rest, as `captions.caption` reads them.
        source: where it comes from.
        licence: under which terms.
        gesture: the curve the arrangement was driven by; None where there was none.
        motion: [S] the motion curve that a following piece was written on; None for all others.
    """

    tokens: np.ndarray
    attributes: dict[str, Any]
    source: str
    licence: str
    gesture: Gesture | None = field(default=None)
    motion: np.ndarray | None = field(default=None)


def compose(rng: np.random.Generator, style: str | None = None, follow: str | None = None) -> Piece:
    """Compose one piece by rule.

    Args:
        rng: the only source of chance; the same state gives the same piece.
        style: a name of `styles.STYLES`; drawn if not given.
        follow: "clear", "loose" or "none": how the piece follows its gesture; drawn if not given.

    Raises:
        KeyError: no such style.
    """
    r = Random(int(rng.integers(1 << 62)))
    name = style if style is not None else theory.weighted(r, STYLE_WEIGHTS)
    habits = STYLES[name]
    mode, feel = r.choice(habits.modes), r.choice(habits.feels)
    num_bars = r.choice(LENGTHS)
    follow = follow or theory.weighted(r, {"clear": 0.6, "loose": 0.2, "none": 0.2})
    strength = {"clear": 1.0, "loose": 0.6, "none": 0.0}[follow]
    gesture = (
        draw_gesture(r, 4 * num_bars, strength, habits.lift)
        if strength
        else steady_gesture(r, 4 * num_bars, habits.lift)
    )
    draft = Draft(r, habits, mode, feel, num_bars, _followed(gesture))
    plan(draft, name)
    sounds = _write_voices(draft, name)
    if strength:
        _mute(draft)
        _strike_accents(draft, sounds)
    end(draft, sounds)
    _write_dynamics(draft)
    fit_ranges(draft)
    tokens = draft.tokens()
    tempo = round(r.uniform(*habits.tempo))
    attributes = describe(r, name, mode, feel, tempo, gesture, draft.energy, tokens, sounds)
    return Piece(tokens, attributes, source="composed", licence=LICENCE, gesture=gesture)


def _followed(gesture: Gesture) -> Gesture:
    """The gesture as the arrangement hears it: drawn toward the middle where it follows loosely."""
    if gesture.follow in (0.0, 1.0):
        return gesture
    energy = [e if e <= STILL else 0.5 + gesture.follow * (e - 0.5) for e in gesture.energy]
    return Gesture(energy, gesture.mute, gesture.accents, gesture.follow)


def plan(draft: Draft, name: str) -> None:
    """Lay out sections of four bars and a chord for every beat; the last bar is the tonic's."""
    r, habits, mode = draft.r, draft.style, draft.mode
    form = r.choice(_FORMS[draft.num_bars // 4])
    per_bar = r.choice(habits.chords_per_bar)
    sevenths = r.random() < habits.sevenths
    looped = r.random() < habits.looped
    draft.sections = [(4 * i, 4, letter) for i, letter in enumerate(form)]
    plans: dict[str, list[str]] = {}
    home = theory.tonic(mode)
    for i, letter in enumerate(form):
        final = i == len(form) - 1
        slots = max(2, round(4 * per_bar))
        if looped:
            if letter not in plans:
                size = min(slots, r.choice((2, 4, 4, 4, 8)))
                plans[letter] = theory.loop(r, mode, max(size, 2), habits.colour)
            degrees = [plans[letter][k % len(plans[letter])] for k in range(slots)]
        else:
            again = letter in form[:i]
            kind = (
                "half" if letter == "A" and not again and r.random() < 0.6 else r.choice(("full", "soft", "deceptive"))
            )
            if letter not in plans or r.random() < 0.35:
                away = "IV" if mode != "minor" else "iv"
                start = home if letter == "A" else r.choice((home, home, away))
                plans[letter] = theory.phrase(r, mode, slots, kind, start, habits.colour)
            degrees = list(plans[letter])
        if final:
            slots_left = slots - 1 if per_bar >= 1 else slots
            ending = theory.phrase(r, mode, max(slots_left, 2), r.choice(("full", "full", "soft")), degrees[0])
            degrees = ending[: slots - 1] if per_bar < 1 else ending[: max(slots - round(per_bar), 1)]
        span = 16 // slots
        for degree in degrees:
            chord = theory.degree_chord(degree, mode, sevenths)
            if final and degree == "V" and r.random() < 0.4:
                chord = theory.degree_chord("V", mode, True)
            draft.chords += [chord] * span
        if final:
            # The cadence leads straight to the last bar.
            wanted = 4 * draft.num_bars - 4
            draft.chords = draft.chords[:wanted]
            while len(draft.chords) < wanted:
                draft.chords.append(draft.chords[-1])
            before = theory.degree_chord(r.choice(("V", "V", "IV" if mode == "major" else "VII")), mode, sevenths)
            held = max(2, min(4, span))
            draft.chords[-held:] = [before] * held
            draft.chords += [theory.degree_chord(home, mode, sevenths and r.random() < 0.5)] * 4
    assert len(draft.chords) == 4 * draft.num_bars
    _suspend(draft)
    chance = {"classical": 0.25, "chorale": 0.25, "pop": 0.12, "cinematic": 0.1}.get(name, 0.04)
    # In order of first appearance: a set's order would hang on memory addresses.
    for value in dict.fromkeys(c.value for c in draft.chords):
        if value // len(notes.QUALITIES) != 0 and r.random() < chance:
            draft.inverted.add(value)


def _suspend(draft: Draft) -> None:
    """Delay the third of some long tonic and dominant chords."""
    r = draft.r
    if r.random() < 0.5:
        return
    beat, last = 4, 4 * draft.num_bars - 4
    while beat < last:
        chord = draft.chords[beat]
        stop = beat
        while stop < last and draft.chords[stop] is chord:
            stop += 1
        if stop - beat >= 2 and chord.root in (0, 7) and r.random() < 0.15:
            half = max(1, (stop - beat) // 2)
            draft.chords[beat : beat + half] = [theory.make_chord(chord.root, "sus4", draft.mode)] * half
        beat = stop


def _write_voices(draft: Draft, name: str) -> dict[str, str]:
    """Write all voices; returns voice → instrument of those that sound."""
    r, habits = draft.r, draft.style
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
    busy, article = r.uniform(*habits.busy), r.choice(habits.article)
    if name == "chorale":
        write_melody(draft, "chorale", busy, article)
        write_bass(draft, "chorale")
        write_harmony(draft, manners["harmony"])
        _write_inner_parts(draft)
    else:
        write_harmony(draft, manners["harmony"])
        write_bass(draft, manners["bass"])
        write_figure(draft, manners["figure"], article)
        write_melody(draft, manners["melody"], busy, article)
        write_counter(draft, manners["counter"])
        drums = r.random() < 0.93
        write_drums(draft, manners["drums"], percussion=not drums or r.random() < 0.85, drums=drums)
        if draft.num_bars > 16 and r.random() < 0.45:
            _layer(draft)
    return {voice: instruments.get(voice, "drums") for voice, row in draft.voices.items() if row}


def _layer(draft: Draft) -> None:
    """Let a voice or two wait through the opening section, and one step back in another, as arrangers do."""
    r = draft.r
    present = [v for v, row in draft.voices.items() if row]
    carrying = "harmony" if "harmony" in present else "figure" if "figure" in present else "melody"
    free = [v for v in present if v != carrying]
    first = draft.sections[0]
    inner = r.choice(draft.sections[1:-1])
    for section, voices in (
        (first, r.sample(free, min(len(free), r.randint(1, 3)))),
        (inner, r.sample(free, min(1, len(free)))),
    ):
        start, stop = section[0] * BAR, (section[0] + section[1]) * BAR
        for voice in voices:
            row = draft.voices[voice]
            if all(start <= s < stop for s in row):
                continue
            for step in [s for s in row if s < stop]:
                if step >= start:
                    del row[step]
                elif row[step][0] > start:
                    row[step][0] = start


def _write_inner_parts(draft: Draft) -> None:
    """Alto and tenor of a chorale: the nearest chord tones between soprano and bass, all parts together."""
    alto, tenor = 64, 57
    for start, (end, soprano, velocity) in sorted(draft.voices["melody"].items()):
        if start % BEAT:
            continue
        chord = draft.chord_at(start)
        missing = [pc for pc in chord.pcs if pc != soprano % 12]
        wanted = tuple(p for p in chord.tones if p % 12 in missing)
        alto = theory.nearest(wanted, min(alto, soprano - 3))
        rest = tuple(p for p in chord.tones if p % 12 != alto % 12) or chord.tones
        tenor = theory.nearest(rest, min(tenor, alto - 3))
        length = max(end - start, BEAT)
        draft.note("counter", start, start + length, theory.fold(alto, 53, 76), velocity)
        draft.note("figure", start, start + length, theory.fold(tenor, 45, 69), velocity)


def _mute(draft: Draft) -> None:
    """Silence what still sounds where the gesture asks for silence."""
    mute = draft.gesture.mute
    spans: list[tuple[int, int]] = []
    for i, muted in enumerate(mute):
        if muted and (i == 0 or not mute[i - 1]):
            spans.append((i * HALF_BEAT, i * HALF_BEAT))
        if muted:
            spans[-1] = (spans[-1][0], (i + 1) * HALF_BEAT)
    for first, last in spans:
        for row in draft.voices.values():
            for start in [s for s in row if s < last]:
                if start >= first:
                    del row[start]
                elif row[start][0] > first:
                    row[start][0] = first


def _strike_accents(draft: Draft, sounds: dict[str, str]) -> None:
    """All voices together at the gesture's accents, as loud as they can; short where the music around is still."""
    r = draft.r
    parts = {v: r.random() < 0.85 for v in ("harmony", "bass", "figure", "melody", "counter")}
    heavy = r.choice((KICK | CRASH, KICK | CRASH, KICK | SNARE | CRASH, KICK | LOW | HIGH, KICK | LOW))
    light = r.choice((KICK | SNARE, KICK | LOW, SNARE | LOW, KICK))
    clears = r.random() < 0.4
    pitched = {v: sorted(draft.voices[v]) for v in _PITCHED}
    for step, strength in sorted(draft.gesture.accents.items()):
        if step >= draft.body_steps:
            continue
        energy = draft.at(step)
        chord = draft.chord_at(step)
        still = energy < 0.2
        length = r.choice((3, 6, 6, 12)) if still else 9
        for voice, row in draft.voices.items():
            if voice not in sounds or voice == "dynamics":
                continue
            for near in (step - 2, step - 1, step + 1, step + 2) + ((step - 3,) if clears else ()):
                row.pop(near, None)
        if "drums" in sounds:
            draft.voices["drums"][step] = [step + 1, heavy if strength > 0.75 else light, 3]
        if "percussion" in sounds and (strength > 0.7 or "drums" not in sounds):
            draft.hit("percussion", step, r.choice((TAMBOURINE, CLAP)) if strength > 0.9 else 2, 3)
        if "harmony" in sounds and parts["harmony"]:
            row = draft.voices["harmony"]
            held = _sounding_until(row, step)
            row[step] = [max(step + length, 0 if still else held), chord.value, 1]
        for voice in _PITCHED:
            if voice not in sounds or not parts[voice]:
                continue
            row = draft.voices[voice]
            if voice == "melody" and strength < 0.7 and step not in row:
                continue
            held = _sounding_until(row, step)
            pitch = row[step][1] if step in row else _accent_pitch(pitched[voice], row, step, chord, voice, r)
            row[step] = [max(step + length, held), pitch, 3]


def _sounding_until(row: dict[int, list[int]], step: int) -> int:
    """End of the event that sounds at `step`, else 0; looks back two bars."""
    if step in row:
        return row[step][0]
    for back in range(step - 1, max(step - 2 * BAR, -1), -1):
        if back in row:
            return row[back][0] if row[back][0] > step else 0
    return 0


def _accent_pitch(
    starts: list[int], row: dict[int, list[int]], step: int, chord: theory.Chord, voice: str, r: Random
) -> int:
    """A chord tone near the voice's last note; the bass takes the root."""
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


def end(draft: Draft, sounds: dict[str, str]) -> None:
    """The tonic in the last bar, then rests."""
    r = draft.r
    start = draft.body_steps
    held = r.choice((12, 24, 24, 36)) if draft.gesture.follow or r.random() < 0.5 else 36
    chord = draft.chords[-1]
    loud = draft.at(start - HALF_BEAT)
    velocity = min(3, max(0, int(3.4 * loud)))
    for row in draft.voices.values():
        for late in [s for s in row if s >= start]:
            del row[late]
        for event in row.values():
            event[0] = min(event[0], start)
    home = theory.degree_chord(theory.tonic(draft.mode), draft.mode, False)
    if "harmony" in sounds:
        draft.note("harmony", start, start + held, chord.value, int(loud > 0.5))
    if "bass" in sounds:
        low = min(draft.voices["bass"].values(), key=lambda e: e[1], default=[0, 31, 0])[1]
        low = min(max(low - 3, 24), 40)
        draft.note("bass", start, start + held, low + (home.root - low) % 12, velocity)
    for voice, tones in (
        ("melody", home.pcs[:1] * 2 + home.pcs[:2]),
        ("counter", home.pcs[1:]),
        ("figure", home.pcs[:3]),
    ):
        if voice in sounds:
            row = draft.voices[voice]
            near = row[max(row)][1] if row else 64
            goal = r.choice(tones)
            pitch = theory.nearest(tuple(p for p in home.tones if p % 12 == goal), near)
            draft.note(voice, start, start + held, pitch, velocity)
    if "drums" in sounds and loud > 0.3:
        draft.voices["drums"][start] = [start + 1, KICK | (CRASH if loud > 0.5 else 0), velocity]
    draft.energy[start // HALF_BEAT :] = [min(loud, 0.6)] * 2 + [0.2] * 2 + [0.0] * 4


def _write_dynamics(draft: Draft) -> None:
    """The level of every half beat at which it changes, without small wavering; accents stand out for half a beat."""
    levels: list[int] = []
    level = round(7.49 * draft.energy[0])
    for i, value in enumerate(draft.energy):
        exact = 7.49 * value
        if abs(exact - level) > 0.6 and (i % 2 == 0 or abs(exact - level) > 1.5):
            level = min(7, max(0, round(exact)))
        levels.append(level)
    steps = [levels[i // HALF_BEAT] for i in range(draft.num_steps)]
    if draft.gesture.follow:
        for step, strength in draft.gesture.accents.items():
            peak = 4 + round(3 * strength)
            for i in range(step, min(step + HALF_BEAT, draft.body_steps)):
                steps[i] = max(steps[i], peak)
    row = draft.voices["dynamics"]
    for i, level in enumerate(steps):
        if i == 0 or level != steps[i - 1]:
            row[i] = [0, level, 0]


def fit_ranges(draft: Draft) -> None:
    """Bring stray pitches into their voices' ranges by octaves."""
    for voice in notes.VOICES:
        if voice.kind != "pitched":
            continue
        for event in draft.voices[voice.name].values():
            event[1] = theory.fold(event[1], voice.base, voice.base + notes.PITCH_RANGE - 1)
