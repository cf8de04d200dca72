"""What a soundfont says of one recording: over which keys and velocities it plays, and how.

Settings ("generators") of a preset's zone add to those of the instrument's zone; numbers are those of the SoundFont
2.04 specification, sections 8.1.2 and 8.4. Values are held to the specification's limits, since soundfonts come from
anywhere.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

_START, _END, _LOOP_START, _LOOP_END, _START_COARSE = 0, 1, 2, 3, 4
_LFO_TO_PITCH, _VIB_TO_PITCH, _ENV_TO_PITCH, _FILTER_FC, _FILTER_Q, _ENV_TO_FC = 5, 6, 7, 8, 9, 11
_END_COARSE, _LFO_TO_VOLUME, _PAN, _LFO_DELAY, _LFO_FREQ, _VIB_DELAY, _VIB_FREQ = 12, 13, 17, 21, 22, 23, 24
_ENV_DELAY, _ENV_ATTACK, _ENV_HOLD, _ENV_DECAY, _ENV_SUSTAIN = 25, 26, 27, 28, 29
_DELAY, _ATTACK, _HOLD, _DECAY, _SUSTAIN, _RELEASE, _KEY_TO_HOLD, _KEY_TO_DECAY = 33, 34, 35, 36, 37, 38, 39, 40
INSTRUMENT, KEY_RANGE, VELOCITY_RANGE, _LOOP_START_COARSE, _KEY, _VELOCITY = 41, 43, 44, 45, 46, 47
_ATTENUATION, _LOOP_END_COARSE, _COARSE_TUNE, _FINE_TUNE, SAMPLE, _MODES = 48, 50, 51, 52, 53, 54
_SCALE_TUNE, _EXCLUSIVE, _ROOT_KEY = 56, 57, 58
# Amounts of two default modulators, kept beside the generators under numbers that no generator has.
_VELOCITY_TO_VOLUME, _VELOCITY_TO_FC = -1, -2
MODULATORS = {(0x0502, _ATTENUATION): _VELOCITY_TO_VOLUME, (0x0102, _FILTER_FC): _VELOCITY_TO_FC}
"""(source, destination) of the modulators that are heeded → where their amount is kept."""
# Velocity acts on no filter unless the font says so: the players that fonts are tuned with leave the specification's
# default of -2400 cents out.
_DEFAULTS = {
    _FILTER_FC: 13500, _SCALE_TUNE: 100, _ROOT_KEY: -1, _KEY: -1, _VELOCITY_TO_VOLUME: 960, _VELOCITY_TO_FC: 0,
} | dict.fromkeys(
    (_DELAY, _ATTACK, _HOLD, _DECAY, _RELEASE, _ENV_DELAY, _ENV_ATTACK, _ENV_HOLD, _ENV_DECAY, _VIB_DELAY, _LFO_DELAY),
    -12000,
)  # fmt: skip
# These belong to the instrument alone (section 8.5).
_INSTRUMENT_ONLY = {_START, _END, _LOOP_START, _LOOP_END, _START_COARSE, _END_COARSE, _LOOP_START_COARSE,
                    _LOOP_END_COARSE, _KEY, _VELOCITY, _MODES, _EXCLUSIVE, _ROOT_KEY, SAMPLE}  # fmt: skip
_MOST_HZ = 400_000


@dataclass(frozen=True)
class Recording:
    """One recording in a soundfont.

    Attributes:
        name: as the soundfont calls it.
        start, end: its place in the sample data: in samples, or in bytes if it is compressed.
        compressed: it is an Ogg Vorbis stream, not 16-bit samples.
    """

    name: str
    start: int
    end: int
    compressed: bool


@dataclass(frozen=True)
class Region:
    """One recording and how it is played over a range of keys and velocities.

    Attributes:
        keys, velocities: inclusive (low, high).
        recording: what is played.
        start, cut: samples left out at its beginning and at its end.
        loop_start, loop_end: in samples from the recording's beginning.
        loops: the loop is repeated while the note lasts.
        sample_rate: of the recording.
        root_cents: pitch of the recording, in cents (6000 = middle C), tuning included.
        scale_cents: cents a key (100; 0 where every key sounds the same).
        attenuation_db: how much quieter than the recording.
        velocity_exponent: amplitude grows with this power of the velocity (2).
        pan: -1 (left) .. 1 (right).
        envelope_s: delay, attack, hold, decay, release in seconds, at key 60.
        sustain_db: attenuation while the note is held after the decay.
        key_to_hold, key_to_decay: cents of time a key below 60.
        cutoff_cents, resonance_db: low-pass filter at rest (6900 cents = 440 Hz).
        velocity_cutoff_cents: by how much the softest note is filtered lower (negative) than the hardest.
        modulation: delay, attack, hold, decay in seconds and the height (0..1) it keeps, of the second envelope.
        modulation_to_cutoff, modulation_to_pitch: what its full height adds to filter and pitch, in cents.
        vibrato: depth in cents, delay in seconds, rate in Hz.
        tremolo: depth in cents of pitch, depth in decibels, delay in seconds, rate in Hz.
        exclusive: notes of the same non-zero class cut each other off (hi-hats).
        fixed_key: key that is always played, or -1.
    """

    keys: tuple[int, int]
    velocities: tuple[int, int]
    recording: Recording
    start: int
    cut: int
    loop_start: int
    loop_end: int
    loops: bool
    sample_rate: int
    root_cents: float
    scale_cents: float
    attenuation_db: float
    velocity_exponent: float
    pan: float
    envelope_s: tuple[float, float, float, float, float]
    sustain_db: float
    key_to_hold: float
    key_to_decay: float
    cutoff_cents: float
    velocity_cutoff_cents: float
    resonance_db: float
    modulation: tuple[float, float, float, float, float]
    modulation_to_cutoff: float
    modulation_to_pitch: float
    vibrato: tuple[float, float, float]
    tremolo: tuple[float, float, float, float]
    exclusive: int
    fixed_key: int


def merge(outer: dict[int, int], zone: dict[int, int], header: tuple) -> Region | None:
    """The region of a preset's zone, an instrument's zone and a recording; None where their ranges do not meet.

    Args:
        outer: generators of the preset's zone.
        zone: generators of the instrument's zone.
        header: the recording's: name, start, end, loop start and end, sample rate, key, correction in cents, link,
            type.

    Raises:
        ValueError: the recording states an impossible sample rate.
    """
    keys, velocities = _overlap(outer, zone, KEY_RANGE), _overlap(outer, zone, VELOCITY_RANGE)
    name, start, end, loop_start, loop_end, sample_rate, original, correction, _, kind = header
    if keys[0] > keys[1] or velocities[0] > velocities[1] or end <= start or not sample_rate:
        return None
    recording = Recording(name.split(b"\0")[0].decode("ascii", "replace"), start, end, bool(kind & 0x10))
    if sample_rate > _MOST_HZ:
        raise ValueError(f"its recording {recording.name!r} states {sample_rate} samples a second")
    if not recording.compressed:  # a compressed recording's loop is counted from its beginning already
        loop_start, loop_end = loop_start - start, loop_end - start

    def value(oper: int, low: int = -32768, high: int = 32767) -> int:
        own = zone.get(oper, _DEFAULTS.get(oper, 0))
        return max(low, min(high, own if oper in _INSTRUMENT_ONLY else own + outer.get(oper, 0)))

    def seconds(oper: int) -> float:
        cents = value(oper, high=8000)
        return 0.0 if cents <= -12000 else 2.0 ** (cents / 1200)

    def hertz(oper: int) -> float:
        return 8.176 * 2.0 ** (value(oper, -16000, 4500) / 1200)

    if value(_ROOT_KEY) >= 0:
        original = value(_ROOT_KEY)
    elif original > 127:
        original = 60
    return Region(
        keys=keys,
        velocities=velocities,
        recording=recording,
        start=max(0, value(_START) + 32768 * value(_START_COARSE)),
        cut=max(0, -value(_END) - 32768 * value(_END_COARSE)),
        loop_start=loop_start + value(_LOOP_START) + 32768 * value(_LOOP_START_COARSE),
        loop_end=loop_end + value(_LOOP_END) + 32768 * value(_LOOP_END_COARSE),
        loops=bool(value(_MODES) & 1),
        sample_rate=sample_rate,
        root_cents=original * 100 - correction - value(_COARSE_TUNE, -120, 120) * 100 - value(_FINE_TUNE, -99, 99),
        scale_cents=value(_SCALE_TUNE, 0, 1200),
        # Soundfonts are made for players that, like the first hardware, apply 0.4 of the attenuation written.
        attenuation_db=0.4 * value(_ATTENUATION, 0, 1440) / 10,
        velocity_exponent=value(_VELOCITY_TO_VOLUME, 0, 1920) / 480,
        pan=float(np.clip(value(_PAN) / 500, -1, 1)),
        envelope_s=(seconds(_DELAY), seconds(_ATTACK), seconds(_HOLD), seconds(_DECAY), seconds(_RELEASE)),
        sustain_db=value(_SUSTAIN, 0, 1440) / 10,
        key_to_hold=value(_KEY_TO_HOLD, -1200, 1200),
        key_to_decay=value(_KEY_TO_DECAY, -1200, 1200),
        cutoff_cents=value(_FILTER_FC, 1500, 13500),
        velocity_cutoff_cents=value(_VELOCITY_TO_FC, -12000, 12000),
        resonance_db=value(_FILTER_Q, 0, 240) / 10,
        modulation=(
            seconds(_ENV_DELAY),
            seconds(_ENV_ATTACK),
            seconds(_ENV_HOLD),
            seconds(_ENV_DECAY),
            1 - value(_ENV_SUSTAIN, 0, 1000) / 1000,
        ),
        modulation_to_cutoff=value(_ENV_TO_FC, -12000, 12000),
        modulation_to_pitch=value(_ENV_TO_PITCH, -12000, 12000),
        vibrato=(value(_VIB_TO_PITCH, -12000, 12000), seconds(_VIB_DELAY), hertz(_VIB_FREQ)),
        tremolo=(
            value(_LFO_TO_PITCH, -12000, 12000),
            value(_LFO_TO_VOLUME, -960, 960) / 10,
            seconds(_LFO_DELAY),
            hertz(_LFO_FREQ),
        ),
        exclusive=value(_EXCLUSIVE, 0, 127),
        fixed_key=value(_KEY, -1, 127),
    )


def _overlap(outer: dict[int, int], zone: dict[int, int], oper: int) -> tuple[int, int]:
    low, high = 0, 127
    for packed in (outer.get(oper), zone.get(oper)):
        if packed is not None:
            low, high = max(low, packed & 0xFF), min(high, packed >> 8)
    return low, high
