"""Orchestration: who plays which voice of a cue, and in which octave, so that its brief is kept.

An instrument that the prompt names gets a voice that it can play; instruments that play many notes at once also take
voices that nobody else plays. All others rest. Without named instruments the recipe's play, except for those that the
prompt excludes.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import permutations

from expotion_cli.brief import Brief
from expotion_cli.keys import tonic_name
from expotion_cli.music.codecs.notes.general_midi import instrument_name
from expotion_cli.music.codecs.notes.instruments import SOUNDING_VOICES, SoundSettings, VoiceSound, parse_key
from expotion_cli.vocabulary import (
    BASS,
    BEAT,
    BELLS,
    BY_NAME,
    ENSEMBLES,
    FAMILIES,
    HIGH,
    INSTRUMENTS,
    KEYS,
    LOW,
    PAD,
    PLUCKED,
    Instrument,
)

BEATING = ("drums", "percussion")
PITCHED = tuple(name for name in SOUNDING_VOICES if name not in BEATING)
TYPICAL_RANGE = {"harmony": (51, 77), "bass": (31, 52), "figure": (50, 76), "melody": (58, 84), "counter": (46, 72)}
"""MIDI keys between which most notes of each voice lie, before its octave."""
_SUITS: dict[str, dict[str, float]] = {
    KEYS: {"harmony": 6, "figure": 7, "melody": 8, "counter": 3, "bass": 5},
    PLUCKED: {"harmony": 6, "figure": 8, "melody": 6, "counter": 3, "bass": 4},
    PAD: {"harmony": 9, "figure": 4, "melody": 5, "counter": 3.5, "bass": 4},
    BELLS: {"harmony": 4, "figure": 8, "melody": 6, "counter": 5},
    HIGH: {"figure": 3, "melody": 9, "counter": 7},
    LOW: {"figure": 3, "melody": 8, "counter": 7, "bass": 6.5},
    BASS: {"melody": 2, "counter": 2, "bass": 10},
}
"""How well each kind of instrument suits each voice; voices left out are beyond it."""
_POLYPHONIC = (KEYS, PLUCKED, PAD, BELLS)
_LOWEST_BASS = 45
"""Instruments that reach down to here can take the bass."""
_LEAD, _LATER, _BASS_IS_EMPTY, _OF_ENSEMBLE = 6.0, 0.01, 1.5, 5.0
_INSTEAD: dict[str, tuple[int, ...]] = {
    "harmony": (48, 52, 61, 89, 0, 24, 16), "figure": (0, 46, 24, 11, 48, 81), "melody": (60, 73, 40, 0, 24, 81),
    "counter": (42, 71, 60, 11, 48, 24), "bass": (43, 58, 32, 0, 38, 70),
}  # fmt: skip
"""Who plays a voice whose instrument is excluded, in order of preference."""
_RECIPES = -1
_KIT_OF_ORCHESTRA, _OF_BANDS = 48, range(24, 40)
"""An orchestra's kit gives way to a drum set beside guitars, bass guitars, and in styles that go to a beat."""


def apply(settings: SoundSettings, brief: Brief) -> SoundSettings:
    """Lay a brief over a recipe's sound: programs, octaves, ranges, mutes and the key of the cue.

    Args:
        settings: of the recipe.
        brief: of the cue.

    Returns:
        Settings whose muted voices rest, in the sound as in the MIDI file.
    """
    sounds = dict(settings.voices)
    excluded = _excluded_programs(brief.excluded)
    if not brief.is_own:
        if brief.instruments:
            sounds = _played_by(sounds, settings.kit, brief, excluded)
        sounds = _without(sounds, brief, excluded)
    for name in _muted_voices(brief.mute, sounds):
        sounds[name] = replace(sounds[name], mute=True)
    key = settings.key if brief.tonic is None or settings.key != "auto" else parse_key(brief.tonic)
    return replace(settings, voices=tuple(sounds.items()), key=key)


def sounding(settings: SoundSettings) -> dict[str, int]:
    """Voice → program (a kit for what beats time) of the voices that are not muted."""
    return {name: sound.program or 0 for name, sound in settings.sounds.items() if not sound.mute}


def described(settings: SoundSettings, brief: Brief, is_minor: bool) -> dict[str, object]:
    """What the sidecar says of a cue's orchestration, in plain JSON values.

    Args:
        settings: from `apply`.
        brief: of the cue.
        is_minor: the mode that the cue has come to have.
    """
    voices = {
        name: {"program": program, "name": instrument_name(program, is_kit=name in BEATING)}
        for name, program in sounding(settings).items()
    }
    return {
        "key": {
            "asked": {
                "tonic": tonic_name(brief.tonic, brief.is_minor) if brief.tonic is not None else None,
                "mode": None if brief.is_minor is None else "minor" if brief.is_minor else "major",
                "mode_from": brief.mode_source or None,
            },
            "taken": {"tonic": tonic_name(settings.tonic, is_minor), "mode": "minor" if is_minor else "major"},
        },
        "metre": brief.metre,
        "instruments": voices,
        "muted": [name for name, sound in settings.sounds.items() if sound.mute],
        "not_understood": list(brief.unknown),
    }


@dataclass(frozen=True)
class _Player:
    """Who may play: an instrument, or the members of an ensemble.

    Attributes:
        programs: voice → program.
        suits: voice → how well.
        fills: voices that it also takes if nobody else plays them.
    """

    programs: Mapping[str, int]
    suits: Mapping[str, float]
    fills: tuple[str, ...]


def _played_by(
    sounds: Mapping[str, VoiceSound], recipe_kit: int, brief: Brief, excluded: set[int]
) -> dict[str, VoiceSound]:
    players = [player for name in brief.instruments if (player := _player(name, sounds, brief, excluded)) is not None]
    programs = _seated(players)
    programs |= _beaten(brief)
    is_band = brief.has_beat or any(program in _OF_BANDS for program in programs.values())
    found: dict[str, VoiceSound] = {}
    for name, sound in sounds.items():
        if name not in programs:
            found[name] = replace(sound, mute=True)
        elif name in BEATING:
            kit = sound.program if programs[name] == _RECIPES else programs[name]
            if programs[name] == _RECIPES and is_band and recipe_kit == _KIT_OF_ORCHESTRA:
                kit = 0
            found[name] = replace(sound, program=kit, mute=False)
        else:
            found[name] = _in_range(replace(sound, program=programs[name], mute=False), name)
    return found


def _player(name: str, sounds: Mapping[str, VoiceSound], brief: Brief, excluded: set[int]) -> _Player | None:
    lead = _LEAD * (name in brief.lead)
    if name in ENSEMBLES:
        roster = ENSEMBLES[name][1]
        pitched = {voice: [p for p in programs if p not in excluded] for voice, programs in roster.items()}
        parts = {voice: found[0] for voice, found in pitched.items() if found and voice in PITCHED}
        if not parts:
            return None
        suits = {voice: _OF_ENSEMBLE + lead * (voice == "melody") for voice in parts}
        if "harmony" in suits:
            suits["harmony"] = _SUITS[PAD]["harmony"]
        return _Player(parts, suits, tuple(parts))
    instrument = BY_NAME[name]
    if instrument.kind == BEAT:
        return None
    suits = dict(_SUITS[instrument.kind])
    if instrument.lowest > _LOWEST_BASS:
        suits.pop("bass", None)
    if lead and "melody" in suits:
        suits["melody"] += lead
    parts = {voice: _program(instrument, voice, sounds) for voice in suits}
    fills = tuple(voice for voice in suits if voice != "counter") if instrument.kind in _POLYPHONIC else ()
    if instrument.kind in (HIGH, LOW) and not brief.is_solo and len(brief.instruments) == 1:
        fills = ("melody", "counter")
    return _Player(parts, suits, fills)


def _program(instrument: Instrument, voice: str, sounds: Mapping[str, VoiceSound]) -> int:
    """The instrument's program; for a general name the recipe's, if the recipe has such an instrument there."""
    own = sounds[voice].program
    return own if instrument.is_generic and own in instrument.covers and own is not None else instrument.program


def _seated(players: Sequence[_Player]) -> dict[str, int]:
    """Voice → program: each player at one voice, as well as they suit, then the voices that are left."""
    seats = players[: len(PITCHED)]
    has_low = any("bass" in player.fills for player in players)
    best: tuple[float, tuple[str, ...]] = (-1.0, ())
    for voices in permutations(PITCHED, len(seats)):
        value = 0.0
        for order, (player, voice) in enumerate(zip(seats, voices, strict=True)):
            value += player.suits.get(voice, -100.0) - _LATER * order * (voice == "melody")
            value += _BASS_IS_EMPTY * (voice == "bass" and not has_low and len(seats) > 1)
        if value > best[0] or not best[1]:
            best = value, voices
    found: dict[str, int] = {}
    for player, voice in zip(seats, best[1], strict=True):
        if voice in player.programs:
            found[voice] = player.programs[voice]
    for voice in PITCHED:
        able = [player for player in players if voice in player.fills]
        if voice not in found and able:
            found[voice] = max(able, key=lambda player: player.suits[voice]).programs[voice]
    return found


def _beaten(brief: Brief) -> dict[str, int]:
    """Voice → kit of what beats time."""
    found: dict[str, int] = {}
    if brief.has_beat and not brief.is_solo:
        found = dict.fromkeys(BEATING, _RECIPES)
    for name in brief.instruments:
        if name in ENSEMBLES:
            found |= {voice: kits[0] for voice, kits in ENSEMBLES[name][1].items() if voice in BEATING}
        elif BY_NAME[name].kind == BEAT:
            found |= dict.fromkeys(BY_NAME[name].beats, BY_NAME[name].program)
    return found


def _without(sounds: Mapping[str, VoiceSound], brief: Brief, excluded: set[int]) -> dict[str, VoiceSound]:
    """Who plays instead of what is excluded; nobody where the prompt names instruments."""
    found = dict(sounds)
    for name in _beats_excluded(brief):
        found[name] = replace(found[name], mute=True)
    if "bass" in brief.excluded:
        found["bass"] = replace(found["bass"], mute=True)
    used = {sound.program for name, sound in found.items() if name in PITCHED and not sound.mute} - excluded
    for name in PITCHED:
        if found[name].mute or found[name].program not in excluded:
            continue
        able = [program for program in _INSTEAD[name] if program not in excluded]
        if brief.instruments or not able:
            found[name] = replace(found[name], mute=True)
            continue
        program = next((candidate for candidate in able if candidate not in used), able[0])
        used.add(program)
        found[name] = _in_range(replace(found[name], program=program), name)
    return found


def _beats_excluded(brief: Brief) -> set[str]:
    asked = {voice for name in brief.instruments if name in BY_NAME for voice in BY_NAME[name].beats}
    found: set[str] = set()
    for name in brief.excluded:
        if name in ("drums", "percussion"):
            # Without drums nothing beats time, unless the other is asked for.
            others = {other for other in brief.instruments if other in BY_NAME and BY_NAME[other].kind == BEAT}
            found |= {name} if others else set(BEATING)
            found |= {"drums"} if name == "drums" else set()
        elif name in BY_NAME and BY_NAME[name].kind == BEAT:
            found |= set(BY_NAME[name].beats) - asked
    return found


def _excluded_programs(names: Iterable[str]) -> set[int]:
    found: set[int] = set()
    for name in names:
        if name in FAMILIES and name != "piano":
            found |= set(FAMILIES[name])
        elif name == "bass":
            continue  # the voice rests
        elif name in BY_NAME:
            found |= set(BY_NAME[name].covers)
        elif name in ENSEMBLES:
            family = {"synthesizer": "synth"}.get(name)
            members = (programs for voice, programs in ENSEMBLES[name][1].items() if voice in PITCHED)
            found |= set(FAMILIES[family]) if family else {program for row in members for program in row}
    return found


def _muted_voices(mute: Iterable[str], sounds: Mapping[str, VoiceSound]) -> set[str]:
    found: set[str] = set()
    for name in mute:
        if name == "drums":
            found |= set(BEATING)
        elif name in SOUNDING_VOICES:
            found.add(name)
        else:
            found |= {voice for voice in PITCHED if sounds[voice].program in FAMILIES[name]}
    return found


def _in_range(sound: VoiceSound, voice: str) -> VoiceSound:
    """The octave in which most notes of a voice lie in its instrument's range, and that range for the others."""
    assert sound.program is not None
    low, high = range_of(sound.program)
    first, last = TYPICAL_RANGE[voice]

    def outside(octave: int) -> tuple[int, int]:
        return max(0, low - first - 12 * octave) + max(0, last + 12 * octave - high), abs(octave)

    return replace(sound, octave=min(range(-2, 3), key=outside), lowest=low, highest=high)


def range_of(program: int) -> tuple[int, int]:
    """Lowest and highest MIDI key that an instrument of this program plays."""
    return _RANGES.get(program, (28, 103))


_RANGES: dict[int, tuple[int, int]] = {}
for _instrument in INSTRUMENTS:
    if _instrument.kind != BEAT:
        _RANGES.setdefault(_instrument.program, (_instrument.lowest, _instrument.highest))
