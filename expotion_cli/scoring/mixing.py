"""How music meets the clip's own sound: what the finish rung mixes, and what is checked of it ahead."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from expotion_cli.recipe import DUCK, MIX_TRACK, REPLACE, Recipe
from expotion_cli.timing import num_samples

if TYPE_CHECKING:
    import numpy as np

    from expotion_cli.media.clip import ClipInfo
    from expotion_cli.media.mix import Mixed
    from expotion_cli.speech.listening import Span


@dataclass(frozen=True)
class MixDown:
    """The sound of a finished video, before its loudness is set.

    Attributes:
        mixed: the sound, and what was done to its music.
        original: [2, n] the clip's own sound in it; None where the music is alone.
        speech: spans in which somebody speaks, in seconds; None where nobody listened for it.
        notes: what a user should know.
    """

    mixed: Mixed
    original: np.ndarray | None = None
    speech: tuple[Span, ...] | None = None
    notes: tuple[str, ...] = ()


def mix_down(clip: ClipInfo, music: np.ndarray, sample_rate: int, recipe: Recipe) -> MixDown:
    """Mix the music with the clip's own sound, as the recipe says.

    Args:
        clip: what is scored.
        music: [2, n] float32.
        sample_rate: of the music, in Hz.
        recipe: its table `[mix]` counts.

    Raises:
        DecodeError: the clip's own sound can't be read.
        WeightsError: speech can't be listened for.
    """
    from expotion_cli.media.mix import mix
    from expotion_cli.media.sound import MIX_HZ, read_clip_sound, resample

    settings, own_rate = recipe.mix, sample_rate
    mode = settings.mode if clip.audio is not None else REPLACE
    original: np.ndarray | None = None
    speech: tuple[Span, ...] | None = None
    notes = list(_without_sound(recipe)) if clip.audio is None else []
    if mode != REPLACE and clip.audio is not None:
        # the clip's own sound keeps its band, whatever the music has
        if clip.audio.sample_rate > sample_rate:
            sample_rate = MIX_HZ
        music = resample(music, own_rate, sample_rate)
        original = read_clip_sound(clip, sample_rate)
    if mode == DUCK and original is not None:
        from expotion_cli.speech.listening import find_speech

        speech = find_speech(original, sample_rate)
        if not speech:
            notes.append("nobody speaks in its own sound: the music is not lowered")
    mixed = mix(
        music,
        sample_rate,
        original=original,
        mode=mode,
        num_samples=num_samples(clip.duration, sample_rate),
        fade_in_s=settings.fade_in_s,
        fade_out_s=settings.fade_out_s,
        under_lu=settings.under_lu,
        music_gain_db=settings.music_gain_db,
        speech=speech or (),
        is_loop=recipe.compose.loop,
    )
    return MixDown(mixed, original, speech, tuple(notes))


def settings_without_effect(recipe: Recipe) -> tuple[str, ...]:
    """Notes, once a run, on settings of `[mix]` that others leave without effect.

    Args:
        recipe: with all flags laid over it.
    """
    settings, found = recipe.mix, []
    if settings.mode == REPLACE and settings.music_gain_db:
        found.append("--music-gain changes nothing where the music replaces the clip's sound: --lufs sets its loudness")
    if settings.default_track != MIX_TRACK and not settings.keep_original:
        found.append("mix.default_track changes nothing without --keep-original")
    return tuple(found)


def check_ahead(recipe: Recipe) -> None:
    """Make sure, before any work is done, that what the mix needs is there.

    Args:
        recipe: with all flags laid over it.

    Raises:
        WeightsError: the weights that hear speech are missing or damaged.
    """
    if recipe.mix.mode == DUCK:
        from expotion_cli.speech.listening import manifest

        manifest().require()


def check_original(clip: ClipInfo, recipe: Recipe) -> None:
    """Make sure, before anything is composed, that the result can hold the clip's own sound beside the mix.

    Args:
        clip: what is scored.
        recipe: with all flags laid over it.

    Raises:
        UsageError: its container can't.
    """
    if recipe.mix.keep_original:
        from expotion_cli.media import kept

        kept.check_original(clip)


def hashed_fields(recipe: Recipe) -> Mapping[str, Any]:
    """What decides the mix beside the recipe's own settings, for the digest of a result; nothing for music alone.

    Args:
        recipe: with all flags laid over it.
    """
    if recipe.mix.mode == REPLACE:
        return {}
    from expotion_cli.media import beneath

    found: dict[str, Any] = {"version": beneath.VERSION}
    if recipe.mix.mode == DUCK:
        from expotion_cli.speech import listening

        found["speech"] = {"version": listening.VERSION, "weights": listening.manifest().files[0].sha256}
    return {"mix": found}


def _without_sound(recipe: Recipe) -> Iterator[str]:
    """Notes on what can't be done for a clip without sound."""
    if recipe.mix.mode != REPLACE:
        yield "it has no sound of its own: the music stands alone"
    if recipe.mix.keep_original:
        yield "it has no sound of its own to keep"
