"""A stretch of bars that is played in one way: by whom, and how much."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from expotion_cli.music.codecs.notes.instruments import SoundSettings, VoiceSound


@dataclass(frozen=True)
class Passage:
    """How a cue is played from a bar on.

    Attributes:
        first_bar: from 0 on.
        settings: who plays. What concerns the cue as a whole (key, reverb, tone) counts of the first passage alone.
        density: "sparse", "dense", or any other word for neither.
        starts_section: a section of the form begins with it.
    """

    first_bar: int
    settings: SoundSettings
    density: str = ""
    starts_section: bool = False

    @property
    def muted(self) -> tuple[str, ...]:
        """Voices that nobody plays."""
        return tuple(name for name, sound in self.settings.sounds.items() if sound.mute)


def sound_at(name: str, bar: int, settings: SoundSettings, passages: Sequence[Passage]) -> VoiceSound:
    """How a voice sounds in a bar.

    Args:
        name: of the voice.
        bar: from 0 on.
        settings: where there are no passages.
        passages: in order; may be empty.
    """
    held = next((each.settings for each in reversed(passages) if each.first_bar <= bar), settings)
    return held.sounds[name]
