"""How a cue sounds: instruments, levels, panning, reverb, key. Recipes set these."""

from __future__ import annotations

import difflib
import hashlib
import math
from collections.abc import Mapping
from dataclasses import dataclass, fields, replace
from typing import Any

from expotion_cli.errors import UsageError
from expotion_cli.music.codecs.notes.tokens import VOICES, Event

ORCHESTRA_KIT = 48
_ORCHESTRA_KEYS = {42: 27, 46: 29, 51: 30, 49: 57}  # hats, ride and a concert cymbal
_LOWEST_TIMPANI = 41
SOUNDING_VOICES = tuple(voice.name for voice in VOICES if voice.kind != "dynamics")
_KEY_NAMES = {"C": 0, "D": 2, "E": 4, "F": 5, "G": 7, "A": 9, "B": 11}
AUTO_KEYS = (-5, -4, -3, -2, -1, 0, 2, 3, 5)
"""Keys that "auto" chooses from, in semitones above C: those with few accidentals, in a comfortable register."""


@dataclass(frozen=True)
class VoiceSound:
    """How one voice sounds.

    Attributes:
        program: General-MIDI program 0..127; for drums and percussion the kit, or None for the recipe's kit.
        gain_db: relative to the balanced level.
        pan: -1 (left) .. 1 (right).
        reverb: reverb send, 0..1.
        octave: octaves up or down.
        mute: leave it out.
        lowest, highest: MIDI keys of the instrument's range; notes beyond are moved by octaves.
    """

    program: int | None = None
    gain_db: float = 0.0
    pan: float = 0.0
    reverb: float = 0.25
    octave: int = 0
    mute: bool = False
    lowest: int = 24
    highest: int = 103


_DEFAULT_SOUNDS = {
    "harmony": VoiceSound(program=48, pan=-0.1, reverb=0.45),
    "drums": VoiceSound(reverb=0.14),
    "percussion": VoiceSound(pan=0.1, reverb=0.2),
    "bass": VoiceSound(program=32, reverb=0.08),
    "figure": VoiceSound(program=46, pan=-0.35, reverb=0.35),
    "melody": VoiceSound(program=0, pan=0.05, reverb=0.3),
    "counter": VoiceSound(program=60, pan=0.35, reverb=0.4),
}


@dataclass(frozen=True)
class SoundSettings:
    """Sound settings of a cue.

    Attributes:
        voices: (name, sound) of every sounding voice.
        key: semitones from C to the tonic, -5..6, or "auto": chosen from the cue's seed.
        reverb_s: reverberation time; 0 for none.
        kit: General-MIDI drum kit program.
        air_db: how much the mix's highs, above 3.2 kHz, are lifted or lowered, -12..12.
        lowpass_hz: the mix is filtered above this frequency, 500..20000, as on an old tape; 0 for no filter.
        humanise: 0 (exactly on the grid) .. 1, small seeded deviations of time and loudness.
        spread: 0 (voices play exactly together) .. 1: how far the voices' onsets lie apart, and how slowly chords are
            strummed.
        ring: hold what sounded last through silences, and start with the first chord.
        landing: close the cue on the tonic chord instead of cutting it off.
        seed: the cue's seed.
        is_loop: the cue's end is followed by its beginning: what rings beyond the one sounds in the other.
        voicings: (step, MIDI pitches) of chords that are voiced so, whatever came before: those that follow bars which
            were composed anew.
        closing: (voice, event) from the closing chord on, if they are settled likewise.
    """

    voices: tuple[tuple[str, VoiceSound], ...] = tuple(_DEFAULT_SOUNDS.items())
    key: int | str = "auto"
    reverb_s: float = 1.8
    kit: int = 0
    air_db: float = 0.0
    lowpass_hz: float = 0.0
    humanise: float = 0.3
    spread: float = 0.7
    ring: bool = True
    landing: bool = True
    seed: int = 0
    is_loop: bool = False
    voicings: tuple[tuple[int, tuple[int, ...]], ...] = ()
    closing: tuple[tuple[str, Event], ...] = ()

    @property
    def sounds(self) -> dict[str, VoiceSound]:
        """Voice name → sound, with the recipe's kit filled in for drums."""
        return {
            name: replace(sound, program=self.kit) if sound.program is None else sound for name, sound in self.voices
        }

    @property
    def tonic(self) -> int:
        """Semitones from C to the tonic, -5..6."""
        if self.key != "auto":
            return int(self.key)
        drawn = hashlib.sha256(f"key {self.seed}".encode()).digest()
        return AUTO_KEYS[int.from_bytes(drawn[:4], "big") % len(AUTO_KEYS)]

    @classmethod
    def from_table(cls, table: Mapping[str, Any], seed: int = 0) -> SoundSettings:
        """Settings from a recipe's `[sound]` and `[voices.<name>]` tables; whatever they leave out keeps its default.

        Args:
            table: {"sound": {"key": "D", "reverb_s": 1.8, "kit": 0, "air_db": 0.0, "lowpass_hz": 0, "humanise": 0.3,
                "spread": 0.7, "ring": true, "landing": true},
                "voices": {"melody": {"program": 73, "gain_db": 1.5, ...}, ...}}; both may be absent.
            seed: the cue's seed.

        Raises:
            UsageError: an unknown key or voice (the nearest known one is named), or a value out of range.
        """
        _known(table, ("sound", "voices"), "the sound settings")
        sound = _table(table.get("sound", {}), "[sound]")
        known = ("key", "reverb_s", "kit", "air_db", "lowpass_hz", "humanise", "spread", "ring", "landing")
        _known(sound, known, "[sound]")
        settings: dict[str, Any] = {"seed": int(seed)}
        if "key" in sound:
            settings["key"] = parse_key(sound["key"])
        ranges = {"reverb_s": (0.0, 10.0), "air_db": (-12.0, 12.0), "humanise": (0.0, 1.0), "spread": (0.0, 1.0)}
        if sound.get("lowpass_hz", 0) != 0:
            ranges["lowpass_hz"] = (500.0, 20000.0)
        for name, (low, high) in ranges.items():
            if name in sound:
                settings[name] = _number(sound[name], low, high, f"[sound] {name}")
        if "kit" in sound:
            settings["kit"] = _integer(sound["kit"], 0, 127, "[sound] kit")
        for name in ("ring", "landing"):
            if name in sound:
                settings[name] = _flag(sound[name], f"[sound] {name}")
        voices = dict(_DEFAULT_SOUNDS)
        given = _table(table.get("voices", {}), "[voices]")
        _known(given, SOUNDING_VOICES, "[voices]")
        for name, values in given.items():
            voices[name] = _voice_sound(voices[name], _table(values, f"[voices.{name}]"), f"[voices.{name}]")
        return cls(voices=tuple(voices.items()), **settings)


def drum_key(key: int, kit: int, tonic: int) -> int:
    """The key of a kit that plays a drum.

    In General MIDI's Orchestra kit, keys 41 to 53 are timpani: the low tom's part is played on the tonic, the high
    tom's on the dominant, and hats and cymbals lie elsewhere.

    Args:
        key: of the drum in the Standard kit.
        kit: General-MIDI drum kit program.
        tonic: semitones from C.
    """
    if kit != ORCHESTRA_KIT:
        return key
    if key in (45, 48):
        return _LOWEST_TIMPANI + (tonic + (7 if key == 48 else 0) - _LOWEST_TIMPANI) % 12
    return _ORCHESTRA_KEYS.get(key, key)


def parse_key(value: Any) -> int | str:
    """A key by name ("D", "F#", "Bb", "auto") or in semitones from C, folded into -5..6.

    Raises:
        UsageError: not a key.
    """
    if isinstance(value, str) and value.strip().lower() == "auto":
        return "auto"
    if isinstance(value, int) and not isinstance(value, bool):
        semitones = value
    else:
        text = str(value).strip().replace("♯", "#").replace("♭", "b")
        if text[:1].upper() not in _KEY_NAMES or text[1:] not in ("", "#", "b"):
            raise UsageError(f"[sound] key: {value!r} is not a key.", remedy='Write for example "D", "Bb" or "auto".')
        semitones = _KEY_NAMES[text[0].upper()] + {"": 0, "#": 1, "b": -1}[text[1:]]
    return (semitones + 5) % 12 - 5


_WHOLE = {"program": (0, 127), "octave": (-3, 3), "lowest": (0, 84), "highest": (36, 127)}


def _voice_sound(base: VoiceSound, values: Mapping[str, Any], where: str) -> VoiceSound:
    _known(values, tuple(field.name for field in fields(VoiceSound)), where)
    changes: dict[str, Any] = {}
    for name, value in values.items():
        label = f"{where} {name}"
        if name == "mute":
            changes[name] = _flag(value, label)
        elif name in _WHOLE:
            changes[name] = _integer(value, *_WHOLE[name], label)
        else:
            low, high = {"gain_db": (-60.0, 24.0), "pan": (-1.0, 1.0), "reverb": (0.0, 1.0)}[name]
            changes[name] = _number(value, low, high, label)
    return replace(base, **changes)


def _known(table: Mapping[str, Any], names: tuple[str, ...], where: str) -> None:
    for key in table:
        if key not in names:
            near = difflib.get_close_matches(str(key), names, n=1, cutoff=0.0)
            raise UsageError(
                f"Unknown key {key!r} in {where}.", remedy=f"Did you mean {near[0]!r}? Known: {', '.join(names)}."
            )


def _table(value: Any, where: str) -> Mapping[str, Any]:
    if not isinstance(value, Mapping):
        raise UsageError(f"{where} should be a table of settings, not {value!r}.")
    return value


def _number(value: Any, low: float, high: float, where: str) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
        raise UsageError(f"{where} should be a number, not {value!r}.")
    if not low <= value <= high:
        raise UsageError(f"{where} is {value}.", remedy=f"Choose a value from {low:g} to {high:g}.")
    return float(value)


def _integer(value: Any, low: int, high: int, where: str) -> int:
    if isinstance(value, bool) or not isinstance(value, int):
        raise UsageError(f"{where} should be a whole number, not {value!r}.")
    return int(_number(value, low, high, where))


def _flag(value: Any, where: str) -> bool:
    if not isinstance(value, bool):
        raise UsageError(f"{where} should be true or false, not {value!r}.")
    return value
