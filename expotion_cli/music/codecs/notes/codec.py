"""The note codec: tokens of eight voices on a beat grid → a score → stereo sound and a MIDI file."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import replace
from fractions import Fraction
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from expotion_cli.keys import Key
from expotion_cli.music.codecs.codec import Rating, Rendering
from expotion_cli.music.codecs.notes.arrange import arrange
from expotion_cli.music.codecs.notes.casting import check_instruments, check_players
from expotion_cli.music.codecs.notes.instruments import SoundSettings
from expotion_cli.music.codecs.notes.judge import NoteJudge
from expotion_cli.music.codecs.notes.midi import Marks, to_midi
from expotion_cli.music.codecs.notes.passage import Passage, sound_at
from expotion_cli.music.codecs.notes.render import SAMPLE_RATE, Renderer
from expotion_cli.music.codecs.notes.sketch import DECODER_BAR, SKETCH_VERSION, Sketch, sketch, strikes_on_grid
from expotion_cli.music.codecs.notes.soundfont import SoundFont, load_soundfont
from expotion_cli.music.codecs.notes.tokens import NUM_VOICES, VOCAB_SIZE, tokens_to_events

if TYPE_CHECKING:
    from expotion_cli.compose import Compose
    from expotion_cli.spotting.plan import CuePlan
    from expotion_cli.timing import Tempo, Timeline

_SOUND_VERSION = 9
"""Raise it when the same tokens and settings sound different; part of `NoteCodec.digest`."""
_renderers: dict[int, tuple[SoundFont, Renderer]] = {}


class NoteCodec:
    """Decodes note tokens with a General-MIDI soundfont.

    Args:
        soundfont: an .sf2 or .sf3 file; None: the one that ships with the package.
        judge: of takes; None for one that knows no training music.

    Raises:
        UsageError: there is no such file.
        WeightsError: the soundfont is missing, damaged or of another kind.
    """

    name = "notes"
    num_codebooks = NUM_VOICES
    vocab_size = VOCAB_SIZE
    bar_steps = DECODER_BAR
    sketch_version = SKETCH_VERSION
    sample_rate = SAMPLE_RATE
    follows_tempo = True

    def __init__(self, soundfont: Path | None = None, judge: NoteJudge | None = None):
        self.judge = judge or NoteJudge()
        font = load_soundfont(soundfont)
        # One renderer a soundfont and process: it remembers resampled notes and measured levels.
        self._renderer = _renderers.setdefault(id(font), (font, Renderer(font)))[1]
        self.font = font

    @cached_property
    def digest(self) -> str:
        """Hash of the soundfont's content and of the renderer's version."""
        return hashlib.sha256(f"notes {_SOUND_VERSION} {SAMPLE_RATE} {self.font.sha256}".encode()).hexdigest()

    @property
    def soundfont(self) -> dict[str, str]:
        """The soundfont's name and digest, as sidecars state them."""
        return {"file": self.font.path.name, "sha256": self.font.sha256}

    def check_sound(self, settings: SoundSettings) -> tuple[str, ...]:
        """What the soundfont plays otherwise than asked for (`casting.check_instruments`).

        Raises:
            UsageError: it lacks an instrument.
        """
        return check_instruments(self.font, settings)

    def timeline(self, duration: Fraction, tempo: Tempo | None) -> Timeline:
        """The beat grid of a cue of this length and tempo.

        Raises:
            ValueError: no tempo was given.
        """
        if tempo is None:
            raise ValueError("The note codec's grid needs a tempo.")
        return tempo.timeline(duration)

    def rate(self, tokens: np.ndarray, audio: np.ndarray, timeline: Timeline) -> Rating:
        """Rate a take by its notes alone (`NoteJudge.rate`)."""
        return self.judge.rate(np.asarray(tokens)[:, : timeline.num_steps], timeline)

    def sketch(
        self,
        plan: CuePlan,
        timeline: Timeline,
        settings: SoundSettings,
        compose: Compose,
        *,
        is_minor: bool | None,
        density: str,
        seed: int,
        passages: Sequence[Passage] = (),
    ) -> Sketch:
        """What is settled about a cue before it is composed (`sketch.py`).

        Args:
            plan: from spotting.
            timeline: the cue's grid.
            settings: say which voices are muted.
            compose: the recipe's table.
            is_minor: the mode that was asked for, or None.
            density: "sparse", "dense" or any other word for neither.
            seed: of the cue.
            passages: who plays when, where that changes.

        Raises:
            UsageError: nobody is left to play, or there is no such groove.
        """
        passages = passages or (Passage(0, settings, density),)
        for passage in passages:
            check_players(passage.settings)
        return sketch(
            plan,
            timeline,
            passages=passages,
            is_minor=is_minor,
            answers=compose.answers,
            groove=compose.groove,
            seed=seed,
            is_loop=compose.loop,
        )

    def answered(
        self,
        plan: CuePlan,
        timeline: Timeline,
        settings: SoundSettings,
        compose: Compose,
        passages: Sequence[Passage] = (),
    ) -> dict[float, float]:
        """Seconds of the hit points that notes answer → seconds at which they do.

        Without drums, notes are too soft to be heard as answers.
        """
        strikes = strikes_on_grid(plan, timeline, compose.answers)
        return {
            strike.time_s: float(timeline.time_of(strike.step))
            for strike in strikes
            if not sound_at("drums", strike.step // timeline.bar_steps, settings, passages).mute
        }

    def decode(
        self,
        tokens: np.ndarray,
        timeline: Timeline,
        settings: SoundSettings | None = None,
        *,
        seed: int | None = None,
        marks: Marks = (),
        keep_stems: bool = False,
        passages: Sequence[Passage] = (),
    ) -> Rendering:
        """Make the sound of a cue.

        Args:
            tokens: [8, S] integers; steps past the timeline's end are ignored.
            timeline: the cue's grid.
            settings: how it sounds; None for the defaults.
            seed: the cue's seed, for the key "auto" and for humanising; None: the settings's.
            marks: become markers of the MIDI file.
            keep_stems: also return each voice by itself, with its reverb; they add up to the whole.
            passages: who plays when, where that changes.

        Returns:
            [2, timeline.samples(44100)] float32 and the MIDI file.
        """
        settings = settings or SoundSettings()
        if seed is not None:
            settings = replace(settings, seed=seed)
        events = tokens_to_events(np.asarray(tokens)[:, : timeline.num_steps])
        arrangement = arrange(events, timeline, settings, passages)
        rendering = self._renderer.render(arrangement, timeline, settings, keep_stems)
        key = Key(settings.tonic % 12, arrangement.minor)
        return replace(rendering, midi=to_midi(arrangement, timeline, settings, marks), key=key)
