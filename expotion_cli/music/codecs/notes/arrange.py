"""Arranges a cue's events as the notes to be played: register, chord voicings, ending, dynamics, humanising."""

from __future__ import annotations

import hashlib
import itertools
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from expotion_cli.music.codecs.notes.ending import close_on_tonic, closed_as, is_minor, landing_step
from expotion_cli.music.codecs.notes.instruments import SoundSettings, VoiceSound, drum_key
from expotion_cli.music.codecs.notes.passage import Passage, sound_at
from expotion_cli.music.codecs.notes.ringing import begin_at_once, ring_on
from expotion_cli.music.codecs.notes.tokens import (
    CHORD_VELOCITIES,
    DYNAMIC_LEVELS,
    VELOCITIES,
    VOICE_INDEX,
    VOICES,
    Event,
    chord_pitches,
)
from expotion_cli.timing import STEPS_PER_BEAT, Timeline

CHORD_LOW, CHORD_HIGH = 51, 77
_CHORD_CENTRE = 63.0
_DEFAULT_LEVEL = 5.0
_RAMP_STEPS = STEPS_PER_BEAT // 4
_LEVEL_DB, _SOFTEST_VELOCITY = 1.6, 0.75
"""Expression between two dynamics levels, and the share of its velocity that a note keeps at the lowest one."""
_MIDDLE_VELOCITY = 92
_ACCENTS = {"harmony": 0.5, "drums": 1.0, "percussion": 0.5, "bass": 0.6, "figure": 0.6, "melody": 0.6, "counter": 0.5}
"""How much of a note's distance from the middle velocity is played: what is held stays as loud as it was struck."""
_ONSET_OFFSETS_S = {"harmony": 0.0, "drums": 0.0, "percussion": 0.006, "bass": 0.004, "figure": 0.01, "melody": -0.008,
                    "counter": 0.014}  # fmt: skip
"""How early or late each voice plays against the beat, in seconds at spread 1."""
_STRUM_S = 0.012
_LEAST_HEIGHT, _LANDING_LEVEL = 5.0, 4.0
_LOWEST_BASS = 28


@dataclass(frozen=True)
class ScoreNote:
    """A note of the arrangement.

    Attributes:
        start: in steps; a note that was already sounding when the picture begins starts between two steps.
        end: in steps.
        pitch: sounding MIDI key (drums: the kit's key).
        velocity: 1..127.
        shift_s: deviation of its onset from the grid; in the sound as in the MIDI file.
    """

    start: float
    end: float
    pitch: int
    velocity: int
    shift_s: float = 0.0


@dataclass(frozen=True)
class Part:
    """Notes of a voice that are played with one sound.

    Attributes:
        voice: its name.
        first: step of the first one.
        sound: how they sound.
        notes: in order of time.
    """

    voice: str
    first: int
    sound: VoiceSound
    notes: tuple[ScoreNote, ...]


@dataclass(frozen=True)
class Arrangement:
    """What is played.

    Attributes:
        parts: the voices, each in as many parts as it changes its sound, in order of time; what is muted or silent is
            left out.
        control: [S + 1] float, MIDI controller 11 (expression, 0..127) at every step.
        minor: the cue's mode.
    """

    parts: tuple[Part, ...]
    control: np.ndarray
    minor: bool

    @property
    def notes(self) -> dict[str, tuple[ScoreNote, ...]]:
        """All notes by voice name, in order of time."""
        found: dict[str, tuple[ScoreNote, ...]] = {}
        for part in self.parts:
            found[part.voice] = (*found.get(part.voice, ()), *part.notes)
        return found


def arrange(
    events: dict[str, list[Event]], timeline: Timeline, settings: SoundSettings, passages: Sequence[Passage] = ()
) -> Arrangement:
    """Make the notes of a cue.

    Args:
        events: per voice name, pitches relative to a tonic of C, on the timeline's steps.
        timeline: the cue's beat grid over the picture.
        settings: key, octaves, mutes, landing, humanising.
        passages: who plays when, where that changes. A note that is held beyond its passage keeps its sound.
    """
    minor = is_minor(events)
    events, landing = shaped(events, timeline, settings, minor)
    levels = dynamics_curve(events.get("dynamics", []), timeline.num_steps)
    levels = levels + max(0.0, _LEAST_HEIGHT - levels.max())  # overall loudness is set when the cue is mixed
    if landing is not None:
        levels[landing:] = np.maximum(levels[landing:], _LANDING_LEVEL)
    control = 127 * 10 ** ((levels - (DYNAMIC_LEVELS - 1)) * _LEVEL_DB / 40)  # controller 11 works by its square
    if landing is not None:  # the last chord dies away
        rate = float(timeline.rate_hz)
        end = timeline.step_at(float(timeline.duration))
        control = control * np.interp(np.arange(len(control)), [landing + 0.3 * rate, max(end, landing + 1)], [1, 0.7])
    softness = _SOFTEST_VELOCITY + (1 - _SOFTEST_VELOCITY) * levels / (DYNAMIC_LEVELS - 1)
    parts: list[Part] = []
    for name in settings.sounds:
        audible = [(event, span) for event in events.get(name, ()) if (span := _audible_span(event, name, timeline))]
        sounds = [sound_at(name, event.start // timeline.bar_steps, settings, passages) for event, _ in audible]
        found: list[tuple[VoiceSound, int, list[ScoreNote]]] = []
        for (event, (start, end)), sound, pitches in zip(
            audible, sounds, _pitches(name, [e for e, _ in audible], settings, sounds), strict=True
        ):
            if sound.mute:
                continue
            if not found or found[-1][0] != sound:
                found.append((sound, event.start, []))
            classes = CHORD_VELOCITIES if VOICES[VOICE_INDEX[name]].kind == "chord" else VELOCITIES
            for order, pitch in enumerate(pitches):
                shift_s, force = _humanise(settings, name, event.start, order)
                if event.velocity == len(classes) - 1:  # accents are struck together
                    shift_s = 0.0
                played = _MIDDLE_VELOCITY * (classes[event.velocity] / _MIDDLE_VELOCITY) ** _ACCENTS[name]
                velocity = round(played * softness[event.start] * force)
                found[-1][2].append(ScoreNote(start, end, pitch, int(np.clip(velocity, 1, 127)), shift_s))
        parts += [Part(name, first, sound, tuple(notes)) for sound, first, notes in found]
    return Arrangement(tuple(parts), control, minor)


def shaped(
    events: dict[str, list[Event]], timeline: Timeline, settings: SoundSettings, minor: bool
) -> tuple[dict[str, list[Event]], int | None]:
    """Events without gaps that nobody composed, closed on the tonic; and the step of the closing chord, if any.

    Args:
        events: by voice name.
        timeline: the cue's beat grid.
        settings: whether to hold and to close, and how if that is settled.
        minor: the cue's mode.
    """
    if settings.ring:
        rung = ring_on(events, timeline.num_steps, timeline.bar_steps)
        events = begin_at_once(rung, math.ceil(timeline.step_at(0.0) - 1e-6))
    if not settings.landing:
        return events, None
    if settings.closing:
        return closed_as(events, settings.closing), settings.closing[0][1].start
    landing = landing_step(events, timeline, dynamics_curve(events.get("dynamics", []), timeline.num_steps))
    return (events if landing is None else close_on_tonic(events, landing, timeline, minor)), landing


def voiced(
    events: dict[str, list[Event]], timeline: Timeline, settings: SoundSettings
) -> list[tuple[int, tuple[int, ...]]]:
    """(step, MIDI pitches) of all chords of a cue, as `arrange` voices them, before octave and range of the voice.

    Args:
        events: from `shaped`.
        timeline: the cue's beat grid.
        settings: key, and voicings that are settled.
    """
    chords = [event for event in events.get("harmony", ()) if _audible_span(event, "harmony", timeline)]
    return [(event.start, pitches) for event, pitches in zip(chords, _voicings(chords, settings), strict=True)]


def dynamics_curve(events: list[Event], num_steps: int) -> np.ndarray:
    """[num_steps + 1] float: the dynamics level at every step.

    A new level is reached at its event, by a linear ramp from up to a quarter of a beat before.
    """
    if not events:
        return np.full(num_steps + 1, _DEFAULT_LEVEL)
    places, levels = [events[0].start], [events[0].value]
    for before, event in itertools.pairwise(events):
        places += [max(before.start, event.start - _RAMP_STEPS), event.start]
        levels += [before.value, event.value]
    return np.interp(np.arange(num_steps + 1), places, levels)


def voice_chords(
    chords: list[tuple[int, tuple[int, ...]]], settled: Mapping[int, tuple[int, ...]] | None = None
) -> list[tuple[int, ...]]:
    """Voice chords in four parts in the middle register, with smooth voice leading.

    The cheapest of all close and open positions of every inversion is chosen (triads double a note). Cost rises with
    each part's movement, above all the top part's, with distance from the register's centre, with narrow intervals in
    the bass and with a semitone at the top.

    Args:
        chords: (root pitch class, intervals above it), at sounding pitch.
        settled: number of a chord → how it is voiced, whatever came before it.

    Returns:
        Ascending MIDI pitches of each chord.
    """
    voiced: list[tuple[int, ...]] = []
    for number, (root, intervals) in enumerate(chords):
        classes = tuple((root + interval) % 12 for interval in intervals)
        if (pitches := (settled or {}).get(number)) and {pitch % 12 for pitch in pitches} == set(classes):
            voiced.append(pitches)
            continue
        before = voiced[-1] if voiced else None
        voiced.append(
            min(_chord_positions(classes), key=lambda pitches: (_voice_leading_cost(pitches, before), pitches))
        )
    return voiced


def _chord_positions(classes: tuple[int, ...]) -> list[tuple[int, ...]]:
    doubled = [classes] if len(classes) >= 4 else [(*classes, classes[0]), (*classes, classes[2])]
    found: set[tuple[int, ...]] = set()
    for parts in doubled:
        for order in set(itertools.permutations(parts)):
            for lowest in range(CHORD_LOW + (order[0] - CHORD_LOW) % 12, CHORD_HIGH - 12, 12):
                pitches = [lowest]
                for part in order[1:]:
                    step = (part - pitches[-1]) % 12
                    pitches.append(pitches[-1] + (step or 12))
                if pitches[-1] <= CHORD_HIGH:
                    found.add(tuple(pitches))
    return sorted(found)


def _voice_leading_cost(pitches: tuple[int, ...], before: tuple[int, ...] | None) -> float:
    gaps = np.diff(pitches)
    cost = 0.5 * abs(sum(pitches) / len(pitches) - _CHORD_CENTRE)
    cost += sum(3.0 for low, gap in zip(pitches, gaps, strict=False) if gap < 3 and low < 57)
    cost += 4.0 * (gaps[-1] == 1) + 0.3 * max(0, int(gaps.max()) - 8) + 0.2 * max(0, pitches[-1] - pitches[0] - 16)
    if before is not None:
        moves = [abs(a - b) for a, b in zip(pitches, before, strict=True)]
        cost += sum(moves) + moves[-1] + 0.5 * max(moves)
    return float(cost)


def _pitches(
    name: str, events: list[Event], settings: SoundSettings, sounds: Sequence[VoiceSound]
) -> Iterator[tuple[int, ...]]:
    """Sounding MIDI keys of each event, each with its sound."""
    voice = VOICES[VOICE_INDEX[name]]
    laid = (
        _voicings(events, settings) if voice.kind == "chord" else [(event.value + settings.tonic,) for event in events]
    )
    for event, pitches, sound in zip(events, laid, sounds, strict=True):
        if voice.kind == "drums":
            kit = sound.program
            assert kit is not None  # `SoundSettings.sounds` fills in the kit
            keys = [drum_key(key, kit, settings.tonic) for key in voice.lanes]
            yield tuple(key for lane, key in enumerate(keys) if event.value >> lane & 1)
            continue
        low = max(sound.lowest, _LOWEST_BASS) if name == "bass" else sound.lowest
        lifted = (_into_range(pitch + 12 * sound.octave, low, sound.highest) for pitch in pitches)
        yield tuple(dict.fromkeys(lifted))


def _voicings(events: list[Event], settings: SoundSettings) -> list[tuple[int, ...]]:
    """MIDI pitches of each chord."""
    settled = dict(settings.voicings)
    chords = [chord_pitches(event.value) for event in events]
    return voice_chords(
        [((root + settings.tonic) % 12, intervals) for root, intervals in chords],
        {number: settled[event.start] for number, event in enumerate(events) if event.start in settled},
    )


def _into_range(pitch: int, low: int, high: int) -> int:
    """A pitch moved by octaves into a range of an octave or more; a smaller one is kept from above."""
    while pitch < low:
        pitch += 12
    while pitch > high:
        pitch -= 12
    return pitch


def _audible_span(event: Event, name: str, timeline: Timeline) -> tuple[float, float] | None:
    """(start, end) in steps of the part of an event inside the clip; None if there is too little of it to play."""
    zero, last = timeline.step_at(0.0), timeline.step_at(float(timeline.duration))
    if event.start >= last:
        return None
    if event.start >= zero:
        return float(event.start), float(event.end)
    rate = float(timeline.rate_hz)
    if (zero - event.start) / rate < 0.02:
        return zero, float(event.end)
    left = (event.end - zero) / rate
    if VOICES[VOICE_INDEX[name]].kind == "drums" or left < 0.1:
        return None
    return (zero, float(event.end)) if left >= 0.35 or left * rate >= (event.end - event.start) / 2 else None


def _humanise(settings: SoundSettings, name: str, step: int, order: int) -> tuple[float, float]:
    """(delay in seconds, factor on the velocity) of one note.

    Made of the voice's place in the ensemble, the note's place in a strummed chord, and a little chance that depends on
    the seed, the voice and the step alone.
    """
    place_s = settings.spread * (
        _ONSET_OFFSETS_S[name] + _STRUM_S * order * (VOICES[VOICE_INDEX[name]].kind == "chord")
    )
    if not settings.humanise:
        return place_s, 1.0
    drawn = hashlib.sha256(f"{settings.seed} {name} {step} {order}".encode()).digest()
    time, force = (int.from_bytes(drawn[k : k + 4], "big") / 2**31 - 1 for k in (0, 4))
    reach_s = 0.004 if VOICES[VOICE_INDEX[name]].kind == "drums" else 0.009
    return place_s + settings.humanise * reach_s * time, 1 + 0.1 * settings.humanise * force
