"""`expotion status`: how far an output folder is."""

from __future__ import annotations

from dataclasses import asdict
from typing import TYPE_CHECKING, Annotated, Any

import typer

from expotion_cli.cli.say import handle_errors, say, say_json

if TYPE_CHECKING:
    from expotion_cli.scoring.status import Status

MOST_DAMAGED = 10


@handle_errors
def status(
    folder: Annotated[str, typer.Argument(help="The output folder, as --out named it.", metavar="DIR")] = "scored",
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> int:
    """Show how far a batch is: what is done, what failed and why, who works on it, the time left, the disk used.

    It only reads, so ask it while another terminal is scoring, or afterwards. Exit code 0: nothing failed; 1: something
    did; 3: nothing there was made by expotion.
    """
    from expotion_cli.scoring.status import read_status

    found = read_status(folder)
    code = 3 if found.is_foreign else 1 if found.failures or found.damaged else 0
    if as_json:
        say_json({"exit_code": code, **_record(found)})
    else:
        _show(found)
    return code


def _record(found: Status) -> dict[str, Any]:
    left = found.time_left
    return {
        "out": str(found.out),
        "done": found.done,
        "damaged": list(found.damaged),
        "failures": [asdict(each) for each in found.failures],
        "running": found.running,
        "holders": [asdict(each) for each in found.holders],
        "left": found.left,
        "time_left_s": None if left is None else round(left.seconds, 1),
        "time_left_is_least": None if left is None else left.is_least,
        "interrupted": found.interrupted,
        "bytes": found.num_bytes,
        "free_bytes": found.free_bytes,
    }


def _show(found: Status) -> None:
    from expotion_cli.weights.manifest import size_text

    if found.is_foreign:
        say(f"{found.out}: nothing here was made by expotion.")
        return
    failed = sum(each.status == "failed" for each in found.failures)
    counts = [(found.done, "done"), (failed, "failed"), (len(found.failures) - failed, "refused"),
              (len(found.damaged), "damaged"), (found.running, "at work"), (found.left or 0, "left")]  # fmt: skip
    said = [f"{number} {word}" for number, word in counts if number or word == "done"]
    say(f"{found.out}: {', '.join(said)}")
    for holder in found.holders:
        clips = f"{holder.clips} clip{'s' * (holder.clips > 1)}"
        say(f"at work: process {holder.process} on {holder.host}, {clips}")
    if found.left and not found.holders:
        stopped = "the last run was interrupted" if found.interrupted else "nobody works on it"
        say(f"{stopped}: run the same command again to go on")
    if found.time_left is not None:
        say(f"time: {found.time_left}")
    free = f", {size_text(found.free_bytes)} free" if found.free_bytes is not None else ""
    say(f"disk: results {size_text(found.num_bytes)}{free}")
    for failure in found.failures:
        say(f"{failure.status}: {failure.clip}: {failure.reason}")
        if failure.remedy:
            say(f"    {failure.remedy}")
    for name in found.damaged[:MOST_DAMAGED]:
        say(f"damaged: {name}: its video is gone or of another size")
    if len(found.damaged) > MOST_DAMAGED:
        say(f"damaged: {len(found.damaged) - MOST_DAMAGED} more")
    if found.damaged:
        say("    Run the same command again to make them anew.")
