"""Whether a soundfont has the instruments that a recipe asks for, told before anything is composed."""

from __future__ import annotations

from expotion_cli.errors import UsageError
from expotion_cli.music.codecs.notes.general_midi import STANDARD_KIT, kit_text, nearest_program, program_text
from expotion_cli.music.codecs.notes.instruments import SoundSettings
from expotion_cli.music.codecs.notes.soundfont import DRUM_BANK, SoundFont
from expotion_cli.music.codecs.notes.tokens import VOICE_INDEX, VOICES


def check_instruments(font: SoundFont, settings: SoundSettings) -> tuple[str, ...]:
    """Check that every voice that isn't muted has its program or drum kit.

    Args:
        font: what plays.
        settings: what is asked for.

    Returns:
        What is worth a note: kits for which the Standard kit will play, as General MIDI lays down.

    Raises:
        UsageError: a program is missing, or a kit and the Standard kit as well; the nearest that is there is named.
    """
    notes: list[str] = []
    for voice, sound in settings.sounds.items():
        if sound.mute:
            continue
        assert sound.program is not None  # `SoundSettings.sounds` fills in the kit
        if VOICES[VOICE_INDEX[voice]].kind != "drums":
            _check_program(font, voice, sound.program)
            continue
        kits = font.numbers(DRUM_BANK)
        if sound.program not in kits and STANDARD_KIT not in kits:
            _refuse_kit(font, voice, sound.program, kits)
        if sound.program not in kits:
            note = f"{font.path.name} has no drum kit {kit_text(sound.program)}; its Standard kit plays instead"
            notes += [note] if note not in notes else []
    return tuple(notes)


def check_players(settings: SoundSettings) -> None:
    """Check that anybody plays at all.

    Raises:
        UsageError: recipe, flags and prompt together mute every voice.
    """
    if all(sound.mute for sound in settings.sounds.values()):
        raise UsageError(
            "Nobody is left to play: every voice is muted by the recipe, by --mute or by the prompt.",
            remedy="Mute fewer voices, or exclude fewer instruments in the prompt.",
        )


def _check_program(font: SoundFont, voice: str, program: int) -> None:
    programs = font.numbers(0)
    if program in programs:
        return
    others = "Use a General-MIDI soundfont."
    if programs:
        nearest = program_text(nearest_program(program, programs))
        others = f"Set program of [voices.{voice}] to {nearest}, the nearest it has, or mute the voice."
    raise UsageError(
        f"The soundfont has no program {program_text(program)}, which the voice {voice} asks for.",
        path=font.path,
        remedy=others,
    )


def _refuse_kit(font: SoundFont, voice: str, kit: int, kits: list[int]) -> None:
    if kits:
        raise UsageError(
            f"The soundfont has neither the drum kit {kit_text(kit)}, which the voice {voice} asks for, nor the "
            "Standard kit.",
            path=font.path,
            remedy=f"Set kit in [sound] to one that it has: {', '.join(map(kit_text, kits))}.",
        )
    raise UsageError(
        f"The soundfont has no drum kits (bank {DRUM_BANK}), which the voice {voice} needs.",
        path=font.path,
        remedy="Mute the voices drums and percussion, or use a General-MIDI soundfont.",
    )
