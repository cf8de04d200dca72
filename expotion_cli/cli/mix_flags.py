"""Flags of `expotion-score` on how music meets the clip's own sound, and on the sound files beside results."""

from __future__ import annotations

from typing import Annotated

import typer

_SOUND, _OUTPUT = "Sound", "Output"

Mix = Annotated[
    str | None,
    typer.Option(
        help="'replace' the clip's sound, lay the music 'under' it, or 'duck' it where somebody speaks.",
        rich_help_panel=_SOUND,
    ),
]
UnderLu = Annotated[
    float | None,
    typer.Option(
        help="How far the music lies below the clip's sound or the voice, in LU; default: the recipe's.",
        rich_help_panel=_SOUND,
    ),
]
MusicGain = Annotated[
    float | None,
    typer.Option(help="More or less of the music beside the clip's sound, in dB.", rich_help_panel=_SOUND),
]
KeepOriginal = Annotated[
    bool | None,
    typer.Option(
        "--keep-original/--no-keep-original",
        help="Keep the clip's own sound as a second track beside the mix.",
        rich_help_panel=_SOUND,
        show_default=False,
    ),
]
MusicOnly = Annotated[
    str | None,
    typer.Option(
        help="Also write the music by itself, as it sounds in the result: wav or flac.", rich_help_panel=_OUTPUT
    ),
]
Stems = Annotated[
    str | None,
    typer.Option(
        help="Also write each voice by itself (models that write notes): wav or flac.", rich_help_panel=_OUTPUT
    ),
]
