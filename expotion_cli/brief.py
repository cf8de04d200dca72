"""The brief of a cue: what its prompt and the recipe's `[compose]` together ask for, as plain data.

`prompt_reader` reads the prompt. Nothing here knows the codec: `orchestrate` makes settings of a brief.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from expotion_cli import prompts
from expotion_cli.compose import AUTO_METRE, METRES
from expotion_cli.keys import Key, parse_key
from expotion_cli.phrases import MODE_OF_MOOD
from expotion_cli.prompt_reader import Said, read_prompt
from expotion_cli.recipe import Recipe
from expotion_cli.timed_prompts import whole

MOST_SAID = 10
"""So many words are named of those that were not understood; the others are counted."""


@dataclass(frozen=True)
class Brief:
    """What a cue should be.

    Attributes:
        prompt: in the user's words.
        is_own: the prompt is the recipe's own, for the instruments that the recipe itself names.
        instruments: names of `vocabulary.BY_NAME` and `vocabulary.ENSEMBLES` that should play, in the prompt's order.
        lead: those that should have the melody.
        is_solo: nobody but the one instrument plays.
        excluded: names of instruments and families that should not play.
        tonic: pitch class, 0 for C; None leaves it open.
        is_minor: the mode; None leaves it open.
        mode_source: where the mode comes from: "recipe", "prompt", "mood", or "" without one.
        metre: one of `compose.METRES`.
        metre_source: "recipe", "prompt", or "" for the common one.
        tempo: lowest and highest, in beats a minute.
        density: "sparse", "medium", "dense" or "".
        moods: words of mood, in the prompt's order.
        styles: words of style.
        has_beat: a style goes to a beat.
        mute: what `compose.mute` leaves out.
        unknown: words that nothing understood, each once.
        notes: in words, what could not be done as asked.
    """

    prompt: str = ""
    is_own: bool = False
    instruments: tuple[str, ...] = ()
    lead: tuple[str, ...] = ()
    is_solo: bool = False
    excluded: tuple[str, ...] = ()
    tonic: int | None = None
    is_minor: bool | None = None
    mode_source: str = ""
    metre: str = METRES[0]
    metre_source: str = ""
    tempo: tuple[float, float] = (0.0, 0.0)
    density: str = ""
    moods: tuple[str, ...] = ()
    styles: tuple[str, ...] = ()
    has_beat: bool = False
    mute: tuple[str, ...] = ()
    unknown: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()

    @property
    def key(self) -> Key | None:
        """Tonic and mode, where there is a tonic."""
        return Key(self.tonic, self.is_minor) if self.tonic is not None else None


def read(prompt: str, recipe: Recipe) -> Brief:
    """Find out what prompt and recipe together ask for.

    >>> brief = read("solo piano in A minor, no drums", Recipe())
    >>> brief.instruments, brief.is_solo, brief.excluded, str(brief.key)
    (('piano',), True, ('drums',), 'A minor')

    Args:
        prompt: of the cue; of a timed one all parts are read.
        recipe: with all flags laid over it; what its `[compose]` says stands above the prompt.
    """
    words = whole(prompt)
    said = read_prompt(words)
    said.excluded += read_prompt(recipe.generate.negative_prompt).asked
    instruments, excluded, notes = _resolved(said)
    wanted = parse_key(recipe.compose.key)
    is_minor, mode_source = said.is_minor, "prompt" if said.is_minor is not None else ""
    if wanted is not None and wanted.is_minor is not None:
        is_minor, mode_source = wanted.is_minor, "recipe"
    elif is_minor is None and (suggested := _suggested_mode(said.moods)) is not None:
        is_minor, mode_source = suggested, "mood"
    metre, metre_source = (said.metre, "prompt") if said.metre else (METRES[0], "")
    if recipe.compose.metre != AUTO_METRE:
        metre, metre_source = recipe.compose.metre, "recipe"
        notes = [note for note in notes if "metre" not in note]
    return Brief(
        prompt=prompt,
        is_own=prompt == recipe.prompt and bool(recipe.voices),
        instruments=instruments,
        lead=tuple(name for name in dict.fromkeys(said.lead) if name in instruments),
        is_solo=said.is_solo and len(instruments) == 1,
        excluded=excluded,
        tonic=said.tonic if wanted is None else wanted.tonic,
        is_minor=is_minor,
        mode_source=mode_source,
        metre=metre,
        metre_source=metre_source,
        tempo=prompts.tempo_range(words, (recipe.tempo.min, recipe.tempo.max)),
        density=said.density,
        moods=tuple(dict.fromkeys(said.moods)),
        styles=tuple(dict.fromkeys(said.styles)),
        has_beat=said.has_beat,
        mute=recipe.compose.mute,
        unknown=tuple(dict.fromkeys(said.unknown)),
        notes=tuple(notes),
    )


def not_understood(words: Iterable[str]) -> str:
    """A phrase that names words nothing understood, at most ten, then a count; empty without any."""
    found = list(dict.fromkeys(words))
    if not found:
        return ""
    more = f" and {len(found) - MOST_SAID} more" if len(found) > MOST_SAID else ""
    return f"not understood: {', '.join(found[:MOST_SAID])}{more}"


def _resolved(said: Said) -> tuple[tuple[str, ...], tuple[str, ...], list[str]]:
    """Instruments and exclusions without contradictions, and what has to be said of them."""
    asked, excluded, notes = list(dict.fromkeys(said.asked)), list(dict.fromkeys(said.excluded)), list(said.notes)
    both = [name for name in asked if name in excluded]
    if both and len(asked) > len(both):
        asked = [name for name in asked if name not in both]
        notes.append(f"the prompt both asks for and excludes {', '.join(both)}: left out")
    elif both:
        excluded = [name for name in excluded if name not in both]
        notes.append(
            f"the prompt both asks for and excludes {', '.join(both)}: kept, because nothing else is asked for"
        )
    return tuple(asked), tuple(excluded), notes


def _suggested_mode(moods: Sequence[str]) -> bool | None:
    suggested = {MODE_OF_MOOD[mood] for mood in moods if mood in MODE_OF_MOOD}
    return suggested.pop() if len(suggested) == 1 else None
