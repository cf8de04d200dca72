"""Form and harmony of a piece: its sections, and a chord for every beat."""

from __future__ import annotations

from expotion_cli.music.codecs.notes import tokens as notes
from expotion_cli.training.mini.corpus import theory
from expotion_cli.training.mini.corpus.arrangement import Arrangement

LENGTHS = (16, 16, 20, 24, 24, 28, 32, 32, 40)
"""Bars of a piece; drawn with equal chances."""
_FORMS = {
    4: ("AABA", "ABAB", "AABB"),
    5: ("AABAC", "ABABC", "AABBA"),
    6: ("AABBAC", "ABACAB", "AABCAB"),
    7: ("AABBCAB", "ABACABA"),
    8: ("AABBAABB", "AABACBAB", "ABACABCC"),
    10: ("AABBCCAABB", "ABACABCABA"),
}


def plan(arrangement: Arrangement, name: str) -> None:
    """Lay out sections of four bars and a chord for each beat; the last bar is on the tonic.

    Args:
        arrangement: gets sections, chords and inversions.
        name: of its style.
    """
    r, habits, mode = arrangement.r, arrangement.style, arrangement.mode
    form = r.choice(_FORMS[arrangement.num_bars // 4])
    per_bar = r.choice(habits.chords_per_bar)
    sevenths = r.random() < habits.sevenths
    looped = r.random() < habits.looped
    arrangement.sections = [(4 * i, 4, letter) for i, letter in enumerate(form)]
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
            arrangement.chords += [chord] * span
        if final:
            # The cadence leads directly to the last bar.
            wanted = 4 * arrangement.num_bars - 4
            arrangement.chords = arrangement.chords[:wanted]
            while len(arrangement.chords) < wanted:
                arrangement.chords.append(arrangement.chords[-1])
            before = theory.degree_chord(r.choice(("V", "V", "IV" if mode == "major" else "VII")), mode, sevenths)
            held = max(2, min(4, span))
            arrangement.chords[-held:] = [before] * held
            arrangement.chords += [theory.degree_chord(home, mode, sevenths and r.random() < 0.5)] * 4
    assert len(arrangement.chords) == 4 * arrangement.num_bars
    _suspend(arrangement)
    chance = {"classical": 0.25, "chorale": 0.25, "pop": 0.12, "cinematic": 0.1}.get(name, 0.04)
    # In order of first appearance: the order of a set would depend on memory addresses.
    for value in dict.fromkeys(c.value for c in arrangement.chords):
        if value // len(notes.QUALITIES) != 0 and r.random() < chance:
            arrangement.inverted.add(value)


def _suspend(arrangement: Arrangement) -> None:
    """Delay the third of some long tonic and dominant chords."""
    r = arrangement.r
    if r.random() < 0.5:
        return
    beat, last = 4, 4 * arrangement.num_bars - 4
    while beat < last:
        chord = arrangement.chords[beat]
        stop = beat
        while stop < last and arrangement.chords[stop] is chord:
            stop += 1
        if stop - beat >= 2 and chord.root in (0, 7) and r.random() < 0.15:
            half = max(1, (stop - beat) // 2)
            arrangement.chords[beat : beat + half] = [theory.make_chord(chord.root, "sus4", arrangement.mode)] * half
        beat = stop
