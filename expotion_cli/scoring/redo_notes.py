"""What is noted of a cue some bars of which were composed anew, so that all that follows them sounds as before."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from expotion_cli.scoring.playing import sound_settings
from expotion_cli.scoring.redo import CLOSING, KEY, VOICINGS, Base, Redone, bars_of, record, settled

if TYPE_CHECKING:
    from expotion_cli.scoring.group import ComposedCue


def redo_notes(cue: ComposedCue, base: Base) -> dict[str, Any]:
    """The steps that led to a cue, how the chords after the bars were voiced, and how the cue closed.

    A chord's voicing leads from the one before: the first chord after the bars keeps the one that it had. So do the
    notes of the closing chord, unless it lies in the bars.

    Args:
        cue: with the bars composed anew.
        base: the cue before.
    """
    from expotion_cli.music.codecs.notes.arrange import shaped, voiced
    from expotion_cli.music.codecs.notes.ending import closing_of, is_minor
    from expotion_cli.music.codecs.notes.tokens import tokens_to_events

    order, timeline, before = cue.order, cue.request.timeline, Redone.of(base.notes)
    bars, size = bars_of(base.step.spans, timeline), timeline.bar_steps
    settings = settled(sound_settings(order.recipe, order.seed, cue.plan, order.prompt), before)
    events = tokens_to_events(base.tokens)
    events, landing = shaped(events, timeline, settings, is_minor(events))
    chords = voiced(events, timeline, settings)

    def is_new(step: int) -> bool:
        return any((first - 1) * size <= step < last * size for first, last in bars)

    voicings = {step: pitches for step, pitches in before.voicings if not is_new(step)}
    for _, last in bars:
        voicings |= dict(next(([chord] for chord in chords if chord[0] >= last * size), []))
    closing = closing_of(events, landing) if landing is not None and not is_new(landing) else ()
    return {
        KEY: [*base.notes.get(KEY, ()), record(base.step, timeline)],
        VOICINGS: [[step, list(pitches)] for step, pitches in sorted(voicings.items())],
        CLOSING: [[name, event.start, event.end, event.value, event.velocity] for name, event in closing],
    }
