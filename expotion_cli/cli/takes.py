"""`expotion takes`: the takes of a result, and another one in its place."""

from __future__ import annotations

import os
import signal
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from expotion_cli.cli.say import handle_errors, say, say_aside, say_json
from expotion_cli.cli.threads import set_waiting
from expotion_cli.errors import UsageError

if TYPE_CHECKING:
    from expotion_cli.scoring.composers import Composer
    from expotion_cli.scoring.takes import Take

BEST = "best"
TITLES = ("", "take", "score", "hits", "spread", "holes", "pulse", "style", "notes", "marks missed", "listen")


@handle_errors
def takes(
    clip: Annotated[
        str, typer.Argument(help="A scored video, its sidecar, or the clip.", metavar="CLIP", show_default=False)
    ],
    choose: Annotated[
        str | None,
        typer.Option(help="Put this take into the video, without composing again: its number, or best.", metavar="N"),
    ] = None,
    out: Annotated[Path, typer.Option("--out", "-o", help="Where results are looked for, if CLIP is a clip.")] = Path(
        "scored"
    ),
    overwrite: Annotated[
        bool, typer.Option("--overwrite", help="Replace a result that was changed since it was made.")
    ] = False,
    model: Annotated[
        str | None,
        typer.Option(help="Where the model lies that composed the takes, if it was moved.", show_default="as recorded"),
    ] = None,
    soundfont: Annotated[
        Path | None, typer.Option(help="The soundfont that the takes were played with, if it was one of your own.")
    ] = None,
    device: Annotated[str, typer.Option(help="auto, cpu, cuda or cuda:N.")] = "auto",
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
    quiet: Annotated[bool, typer.Option("--quiet", "-q", help="Print only errors.")] = False,
) -> None:
    """List the takes of a result with their scores, or choose another one.

    `expotion-score --takes 4 --keep-takes` keeps all takes of each cue beside the result, in NAME.takes, to listen to.
    A later run of the same command leaves your choice alone.

    Examples: expotion takes scored/clip.mp4; expotion takes scored/clip.mp4 --choose 3;
    expotion takes clips/clip.mp4 --out scored
    """
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # SIGTERM ends it like Ctrl-C
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
    set_waiting()
    from expotion_cli.scoring.takes.find import find_result
    from expotion_cli.scoring.takes.layout import takes_in

    number = _number(choose)
    video, sidecar, original = find_result(clip, out)
    if choose is not None:
        from expotion_cli.scoring.takes.choose import Choice
        from expotion_cli.scoring.takes.choose import choose as choose_take

        def load(known: Mapping[str, Any]) -> Composer:
            return _load(known, model, soundfont, device)

        sidecar = choose_take(Choice(video, number, original, overwrite), load)
    found = takes_in(video, sidecar)
    if as_json:
        say_json(_record(video, sidecar, found))
        return
    if quiet:
        return
    if choose is not None:
        chosen = next(take for take in found if take.chosen)
        say(f"{video} plays take {chosen.number} of {len(found)}{', as you chose' if chosen.by_user else ', the best'}")
        return
    _show(video, sidecar, found)


def _number(text: str | None) -> int | None:
    if text is None or text == BEST:
        return None
    if not text.isdecimal() or int(text) < 1:
        raise UsageError(f"--choose {text!r} is no take.", remedy=f"Give a number from the list, or {BEST}.")
    return int(text)


def _load(known: Mapping[str, Any], name: str | None, soundfont: Path | None, device: str) -> Composer:
    """What plays a result's takes: the codec of its model, adapters aside."""
    from expotion_cli.cli.carry_out import AUDIOCRAFT
    from expotion_cli.scoring.composers import LocalComposer

    recorded = known["model"]
    name = name or str(recorded["name"])
    if recorded.get("backbone") == AUDIOCRAFT:
        from expotion_cli.music.audiocraft_backbone import load_audiocraft

        return LocalComposer(load_audiocraft(name, device=device))  # type: ignore[arg-type]
    from expotion_cli.music.load import load_model

    return LocalComposer(load_model(name, device=device, adapter="none", soundfont=soundfont))


def _show(video: Path, sidecar: Mapping[str, Any], found: list[Take]) -> None:
    if not found:
        reason = "has one take only" if "takes" in sidecar else "was made by an older version, which noted no takes"
        say_aside(f"{video} {reason}; expotion-score --takes 4 --keep-takes makes more")
        return
    rows = [TITLES, *(_row(take) for take in found)]
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    for row in rows:
        say("  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip())
    chosen = next((take for take in found if take.chosen), None)
    who = "you chose" if chosen is not None and chosen.by_user else "the best by score"
    say(f"* plays in {video} ({who})")
    if all(take.sound is None for take in found):
        say_aside("its takes were not kept; expotion-score --keep-takes keeps them, to listen to and to choose from")
    else:
        say(f"another one: expotion takes {_quoted(video)} --choose N")


def _row(take: Take) -> tuple[str, ...]:
    terms = take.terms
    return (
        "*" if take.chosen else "",
        str(take.number),
        _said(take.score, "{:.3f}"),
        _said(terms.get("hits"), "{:.2f}"),
        _said(terms.get("spread_db"), "{:.1f} dB"),
        _said(terms.get("hole_share"), "{:.1%}"),
        _said(terms.get("pulse"), "{:.2f}"),
        _said(terms.get("style"), "{:.2f}"),
        _said(terms.get("notes"), "{:.0%}"),
        "; ".join(take.missed) or "none",
        str(take.sound) if take.sound is not None else "–",
    )


def _said(value: float | None, form: str) -> str:
    return "–" if value is None else form.format(value)


def _quoted(path: Path) -> str:
    import shlex

    return shlex.quote(str(path))


def _record(video: Path, sidecar: Mapping[str, Any], found: list[Take]) -> dict[str, Any]:
    from expotion_cli.scoring.sidecar import sidecar_path

    rows = [
        {
            "take": take.number,
            "chosen": take.chosen,
            "by_user": take.by_user,
            "score": take.score,
            "terms": dict(take.terms),
            "missed": list(take.missed),
            "sound": None if take.sound is None else str(take.sound),
        }
        for take in found
    ]
    return {"video": str(video), "sidecar": str(sidecar_path(video)), "takes": rows}
