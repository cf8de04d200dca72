"""What is noted of a cue some bars of which were composed anew, so that all that follows them sounds as before."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

from expotion_cli.scoring.playing import sound_settings
from expotion_cli.scoring.redo import KEY, VOICINGS, Base, Redone, bars_of, record

if TYPE_CHECKING:
    from expotion_cli.scoring.group import ComposedCue


def redo_notes(cue: ComposedCue, base: Base) -> dict[str, Any]:
    """The steps that led to a cue, and how the chords after the bars were voiced.

    A chord's voicing leads from the one before; the first chord after the bars keeps the one that it had.

    Args:
        cue: with the bars composed anew.
        base: the cue before.
    """
    timeline = cue.request.timeline
    bars, size = bars_of(base.step.spans, timeline), timeline.bar_steps
    kept = {
        step: pitches
        for step, pitches in Redone.of(base.notes).voicings
        if not any((first - 1) * size <= step < last * size for first, last in bars)
    }
    voiced = _voiced(cue, base)
    for _, last in bars:
        kept |= dict(next(([chord] for chord in voiced if chord[0] >= last * size), []))
    return {
        KEY: [*base.notes.get(KEY, ()), record(base.step, timeline)],
        VOICINGS: [[step, list(pitches)] for step, pitches in sorted(kept.items())],
    }


def _voiced(cue: ComposedCue, base: Base) -> list[tuple[int, tuple[int, ...]]]:
    """All chords of the cue before, as they were voiced."""
    from expotion_cli.music.codecs.notes.arrange import voiced
    from expotion_cli.music.codecs.notes.tokens import tokens_to_events

    order = cue.order
    settings = sound_settings(order.recipe, order.seed, cue.plan, order.prompt)
    return voiced(
        tokens_to_events(base.tokens), cue.request.timeline, replace(settings, voicings=Redone.of(base.notes).voicings)
    )
