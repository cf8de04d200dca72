"""How a cue sounds: instruments, levels, panning, reverb, key. Recipes set these."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

from expotion_cli import declare
from expotion_cli.errors import RecipeError
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
    """How one voice sounds; the kit of drums and percussion is the recipe's where they name no program."""

    program: int | None = declare.whole(None, 0, 127, "General-MIDI program; for drums and percussion the kit")
    gain_db: float = declare.number(0.0, -60.0, 24.0, "level relative to the balanced one, in dB")
    pan: float = declare.number(0.0, -1.0, 1.0, "place from left (-1) to right (1)")
    reverb: float = declare.number(0.25, 0.0, 1.0, "share sent to the reverb")
    octave: int = declare.whole(0, -3, 3, "octaves up or down")
    mute: bool = declare.flag(False, "leave the voice out")
    lowest: int = declare.whole(24, 0, 84, "lowest MIDI key of the instrument; lower notes are moved up by octaves")
    highest: int = declare.whole(103, 36, 127, "highest MIDI key; higher notes are moved down by octaves")


_DEFAULT_SOUNDS = {
    "harmony": VoiceSound(program=48, pan=-0.1, reverb=0.45),
    "drums": VoiceSound(reverb=0.14),
    "percussion": VoiceSound(pan=0.1, reverb=0.2),
    "bass": VoiceSound(program=32, reverb=0.08),
    "figure": VoiceSound(program=46, pan=-0.35, reverb=0.35),
    "melody": VoiceSound(program=0, pan=0.05, reverb=0.3),
    "counter": VoiceSound(program=60, pan=0.35, reverb=0.4),
}


def parse_key(value: Any) -> int | str:
    """A key by name ("D", "F#", "Bb", "auto") or in semitones from C, folded into -5..6."""
    if isinstance(value, str) and value.strip().lower() == "auto":
        return "auto"
    if isinstance(value, int) and not isinstance(value, bool):
        semitones = value
    else:
        text = str(value).strip().replace("♯", "#").replace("♭", "b")
        if text[:1].upper() not in _KEY_NAMES or text[1:] not in ("", "#", "b"):
            raise ValueError('is not a key such as "D", "Bb" or "auto"')
        semitones = _KEY_NAMES[text[0].upper()] + {"": 0, "#": 1, "b": -1}[text[1:]]
    return (semitones + 5) % 12 - 5


def _key() -> Any:
    schema = {"anyOf": [{"type": "integer"}, {"type": "string"}]}
    return declare.custom("auto", parse_key, schema, "earlier name of compose.key; semitones above C are read, too")


def _lowpass() -> Any:
    low, high = 500.0, 20000.0

    def check(value: Any) -> float:
        if isinstance(value, bool) or not isinstance(value, int | float) or not (value == 0 or low <= value <= high):
            raise ValueError(f"must be 0, or a number from {low:g} to {high:g}")
        return float(value)

    schema = {"anyOf": [{"const": 0}, {"type": "number", "minimum": low, "maximum": high}]}
    return declare.custom(0.0, check, schema, "filter the mix above this frequency, in Hz; 0 for no filter")


@dataclass(frozen=True)
class SoundSettings:
    """Sound settings of a cue.

    Attributes:
        voices: (name, sound) of every sounding voice.
        key: semitones from C to the tonic, -5..6, or "auto": chosen from the cue's seed.
        seed: the cue's seed.
        is_loop: the cue's end is followed by its beginning: what rings beyond the one sounds in the other.
        voicings: (step, MIDI pitches) of chords that are voiced so, whatever came before: those that follow bars which
            were composed anew.
        closing: (voice, event) from the closing chord on, if they are settled likewise.
    """

    voices: tuple[tuple[str, VoiceSound], ...] = tuple(_DEFAULT_SOUNDS.items())
    key: int | str = _key()
    reverb_s: float = declare.number(1.8, 0.0, 10.0, "reverberation time in seconds; 0 for none")
    kit: int = declare.whole(0, 0, 127, "General-MIDI drum kit, e.g. 0 standard, 25 TR-808, 40 brushes, 48 orchestra")
    air_db: float = declare.number(0.0, -12.0, 12.0, "lift or lower the mix's highs, above 3.2 kHz, in dB")
    lowpass_hz: float = _lowpass()
    humanise: float = declare.number(0.3, 0.0, 1.0, "small deviations of time and loudness; 0: exactly on the grid")
    spread: float = declare.number(0.7, 0.0, 1.0, "how far voices' onsets lie apart and chords are strummed")
    ring: bool = declare.flag(True, "hold what sounded last through silences, and begin with the first chord")
    landing: bool = declare.flag(True, "close on the tonic chord instead of cutting the music off")
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
            RecipeError: an unknown key or voice (the nearest known one is named), or a value out of range.
        """
        for key in table:
            if key not in ("sound", "voices"):
                raise declare.unknown_key(key, ("sound", "voices"), where="recipe", path=None)
        sounds, given = dict(_DEFAULT_SOUNDS), table.get("voices", {})
        if not isinstance(given, Mapping):
            raise RecipeError("recipe: 'voices' must be a table, written as [voices.bass].")
        for name, values in given.items():
            if name not in sounds:
                known = [f"voices.{each}" for each in SOUNDING_VOICES]
                raise declare.unknown_key(f"voices.{name}", known, where="recipe", path=None)
            sounds[name] = declare.with_table(sounds[name], f"voices.{name}", values, where="recipe", path=None)
        settings = cls(voices=tuple(sounds.items()), seed=int(seed))
        found: SoundSettings = declare.with_table(settings, "sound", table.get("sound", {}), where="recipe", path=None)
        return found


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
