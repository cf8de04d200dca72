"""How a cue ends: on the tonic, at the last strong onset that leaves the chord time to ring."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np

from expotion_cli.music.codecs.notes.tokens import VELOCITIES, VOICE_INDEX, VOICES, Event, chord_pitches, chord_value
from expotion_cli.timing import STEPS_PER_BEAT, Timeline

Closing = tuple[tuple[str, Event], ...]
"""(voice, event) from the closing chord on, in order of time."""
_LANDING_S = (0.45, 1.4)
_SHORTEST_LANDING_S = 1.0
_KICK, _CRASH = 1, 16


def is_minor(events: dict[str, list[Event]]) -> bool:
    """The mode of a cue: whether the tonic's chords, or else the thirds in the other voices, are minor."""
    thirds = {3: 0, 4: 0}
    for event in events.get("harmony", ()):
        root, intervals = chord_pitches(event.value)
        if root == 0 and intervals[1] in thirds:
            thirds[intervals[1]] += event.end - event.start
    if not any(thirds.values()):
        for voice in VOICES:
            for event in events.get(voice.name, ()) if voice.kind == "pitched" else ():
                if event.value % 12 in thirds:
                    thirds[event.value % 12] += event.end - event.start
    return thirds[3] > thirds[4]


def landing_step(events: dict[str, list[Event]], timeline: Timeline, levels: np.ndarray) -> int | None:
    """Step of the closing chord: the strongest onset among those that leave the chord time to ring.

    Onsets follow the picture, so the last chord falls on the last gesture. Ties go to the stronger beat, which decides
    alone where there are no onsets.

    Args:
        events: by voice name.
        timeline: the cue's beat grid.
        levels: [S + 1] of dynamics at every step.
    """
    rate = float(timeline.rate_hz)
    shortest, longest = _LANDING_S
    last = timeline.step_at(float(timeline.duration))
    earliest = max(last - longest * rate, timeline.step_at(_SHORTEST_LANDING_S))
    steps = list(range(math.ceil(earliest), math.floor(last - shortest * rate) + 1))
    bar = timeline.bar_steps
    struck = dict.fromkeys(steps, 0.0)
    for name, found in events.items():
        if VOICES[VOICE_INDEX[name]].kind != "dynamics":
            for event in found:
                if event.start in struck:
                    struck[event.start] += 1 + event.velocity
    hardest = 0.9 * max(struck.values(), default=0.0)
    on_beats = [step for step in steps if step % (STEPS_PER_BEAT // 2) == 0 or 0 < hardest <= struck[step]] or steps

    def priority(step: int) -> tuple[float, float, int]:
        strides = (bar, bar // 2, STEPS_PER_BEAT)
        beat = next((weight for weight, stride in zip((3, 2, 1), strides, strict=True) if step % stride == 0), 0)
        return struck[step] * (1 + levels[step]), beat, step

    return max(on_beats, key=priority, default=None)


def close_on_tonic(
    events: dict[str, list[Event]], landing: int, timeline: Timeline, minor: bool
) -> dict[str, list[Event]]:
    """Close on the tonic: from `landing` on, every voice that was playing holds a note of the tonic chord.

    Args:
        events: by voice name.
        landing: the step.
        timeline: the cue's beat grid.
        minor: the cue's mode.
    """
    triad = (0, 3, 7) if minor else (0, 4, 7)
    landed: dict[str, list[Event]] = {}
    for voice in VOICES:
        kept = [replace(e, end=min(e.end, landing)) for e in events.get(voice.name, ()) if e.start < landing]
        landed[voice.name] = kept
        if voice.kind == "dynamics":
            continue
        recent = [e for e in kept if (e.start if voice.kind == "drums" else e.end) > landing - timeline.bar_steps]
        if not recent:
            continue
        last = recent[-1]
        if voice.kind == "chord":
            value, velocity = chord_value(0, "min" if minor else "maj"), last.velocity
        elif voice.kind == "drums":
            answers = [e for e in events[voice.name] if e.start > landing and e.velocity == len(VELOCITIES) - 1]
            if voice.name != "drums":
                kept += answers
                continue
            kept += [Event(landing, landing + 1, _KICK | _CRASH, max(2, last.velocity)), *answers]
            continue
        else:
            tones = (0,) if voice.name == "bass" else triad
            wanted = [p for p in range(voice.base, voice.base + 48) if p % 12 in tones]
            # The tonic is preferred where another chord tone is hardly nearer.
            value = min(wanted, key=lambda p: (abs(p - last.value) + 2.5 * (p % 12 != 0), p))
            velocity = max(2, last.velocity)
        kept.append(Event(landing, timeline.num_steps, value, velocity))
    return landed


def closed_as(events: dict[str, list[Event]], closing: Closing) -> dict[str, list[Event]]:
    """Close as a cue closed before, whatever leads up to it now.

    Args:
        events: by voice name.
        closing: from `closing_of`.
    """
    landing = closing[0][1].start
    landed = {
        name: [replace(event, end=min(event.end, landing)) for event in found if event.start < landing]
        for name, found in events.items()
    }
    for name, event in closing:
        landed.setdefault(name, []).append(event)
    return landed


def closing_of(events: dict[str, list[Event]], landing: int) -> Closing:
    """What a closed cue plays from its closing chord on.

    Args:
        events: from `close_on_tonic` or `closed_as`.
        landing: the step.
    """
    found = [(name, event) for name, events_ in events.items() for event in events_ if event.start >= landing]
    return tuple(sorted(found, key=lambda one: one[1].start))
