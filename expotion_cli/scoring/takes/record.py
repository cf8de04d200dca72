"""What a sidecar says of a cue's takes, and what a later run takes from it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from expotion_cli.scoring.takes.layout import BY_SCORE, BY_USER, take_seed, takes_record

if TYPE_CHECKING:
    from expotion_cli.scoring.takes.keep import Kept
    from expotion_cli.scoring.takes.playing import Chosen


def describe_takes(
    chosen: Chosen, seed: int, digests: Sequence[str], kept: Kept | None = None
) -> dict[str, Any] | None:
    """What the sidecar says of a cue's takes; None where there is only one.

    Args:
        chosen: the take that the result plays, beside the others.
        seed: of the cue.
        digests: of the takes' tokens, in order.
        kept: what lies beside the result; None where takes are not kept.
    """
    if not chosen.judged:
        return None
    rows = [
        {
            "take": judged.number,
            "seed": take_seed(seed, judged.number - 1),
            "tokens": digests[judged.number - 1],
            "score": judged.score,
            "missed": list(judged.missed),
            "terms": dict(judged.terms),
            **({} if kept is None else kept.files[judged.number]),
        }
        for judged in chosen.judged
    ]
    by = BY_USER if chosen.by_user else BY_SCORE
    again = {} if kept is None else {"again": dict(kept.again)}
    return {"chosen": chosen.number, "chosen_by": by, "each": rows, **again}


def playing_take(sidecar: Mapping[str, Any] | None, most: int) -> int:
    """Number of the take that a result plays; 1 where its sidecar names none of so many."""
    number = takes_record(sidecar).get("chosen", 1)
    return int(number) if 1 <= number <= most else 1


def users_choice(sidecar: Mapping[str, Any] | None, digests: Sequence[str]) -> tuple[int | None, bool]:
    """The take that the user chose for a result that is made anew.

    Args:
        sidecar: of the result that is there.
        digests: of the takes' tokens that are composed now.

    Returns:
        (its number, or None; whether there was a choice that can't be kept, because that take is no longer composed).
    """
    record = takes_record(sidecar)
    if record.get("chosen_by") != BY_USER:
        return None, False
    number = record["chosen"]
    tokens = next((row.get("tokens") for row in record["each"] if row["take"] == number), None)
    is_there = 1 <= number <= len(digests) and digests[number - 1] == tokens
    return (number, False) if is_there else (None, True)
