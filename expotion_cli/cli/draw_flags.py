"""Flags of `expotion-score` on how tokens are drawn and takes are kept."""

from __future__ import annotations

from typing import Annotated

import typer

_MUSIC, _OUTPUT = "Music", "Output"

Guidance = Annotated[
    float | None,
    typer.Option(help="Weight of the prompt; 1 is neutral; default: the recipe's.", rich_help_panel=_MUSIC),
]
VisualGuidance = Annotated[
    float | None,
    typer.Option(help="Weight of the picture; 1 is neutral; default: the recipe's.", rich_help_panel=_MUSIC),
]
Temperature = Annotated[
    float | None,
    typer.Option(
        help="Sampling temperature; 0 always takes the likeliest token; default: the recipe's.",
        rich_help_panel=_MUSIC,
    ),
]
TopK = Annotated[
    int | None,
    typer.Option(
        help="Sample from this many of the likeliest tokens; 0 for all; default: the recipe's.",
        rich_help_panel=_MUSIC,
    ),
]
Takes = Annotated[
    int | None,
    typer.Option(help="Compose this many takes of each cue; the best one ends in the video.", rich_help_panel=_MUSIC),
]
KeepTakes = Annotated[
    bool,
    typer.Option(
        "--keep-takes",
        help="Also keep all takes of each cue in NAME.takes, to choose another with `expotion takes`.",
        rich_help_panel=_OUTPUT,
    ),
]
