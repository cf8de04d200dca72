"""What holds when batches are killed, interrupted, doubled, robbed of their workers, or fed with broken files.

The command itself scores short clips with the embedded model, again and again, and is disturbed at random moments
(seeded; how far a batch is by then depends on the machine). Whatever happens, it must end with the results of an
undisturbed run: the same files byte for byte, tokens, decoded sound and sidecars. All that is promised and not kept is
counted and printed.

- kills: SIGKILL, resumed each time until the batch is done, then from the start again;
- two: two commands on one output folder, the first killed in every other round;
- signals: SIGINT and SIGTERM, which must end it within 5 s, with exit code 130 and a word on how to go on;
- memory: workers that crash, hang or fill memory; workers killed or stopped from outside;
- fuzz: mutated media files (`fuzz_media.py`).

    python benchmarks/reliability.py
    python benchmarks/reliability.py --only kills,signals --kills 20 --signals 10
"""

from __future__ import annotations

import argparse
import json
import math
import subprocess
import sys
import tempfile
from functools import cached_property
from pathlib import Path
from typing import Any

from bench import RESULTS, machine, print_table, use_cores, write_results
from disturbed import Batch, kills, lost_workers, signals, two_at_once, undisturbed
from runaways import runaways
from watched import make_clips

PARTS = ("kills", "two", "signals", "memory", "fuzz")
COUNTS = {"kills": 200, "two": 10, "signals": 40, "workers": 9, "fuzz": 2000}
CLIPS, SEED = 6, 13
PLAIN = ("--streams", "flow", "--midi")
BATCHES = (PLAIN, ("--midi",), ("--streams", "none", "--takes", "1"))
"""Flags of the batches that are killed, in turn: by flow alone, by all that recipes watch, by nothing."""


class Bench:
    """What the parts share.

    Args:
        root: a folder for clips and batches.
        options: from the command line.
    """

    def __init__(self, root: Path, options: argparse.Namespace):
        self.root, self.options = root, options
        self.clips = make_clips(root / "clips", options.clips)
        self.longest_s = options.minutes * 60

    @cached_property
    def plain(self) -> Batch:
        """The batch of the parts that need one alone."""
        return undisturbed(self.root / "undisturbed", self.clips, PLAIN)

    def kills(self) -> dict[str, Any]:
        """See `disturbed.kills`."""
        others = [undisturbed(self.root / f"other-{i}", self.clips, flags) for i, flags in enumerate(BATCHES[1:])]
        found = kills(self.root, [self.plain, *others], self.options.kills, self.options.seed, longest_s=self.longest_s)
        rows = [(moment, number) for moment, number in sorted(found["moments"].items())]
        print_table(f"{found['kills']} kills, {found['batches']} batches done", ("while", "kills"), rows)
        rows = [
            ("clips finished", found["clips"]),
            ("finished clips made again", found["finished_clips_redone"]),
            ("half-written files left in caches", found["cache_temporaries"]),
            ("left in the folder for temporary files", found["temporary_files"]),
        ]
        print_table("After them", ("what", "number"), rows)
        return found

    def two(self) -> dict[str, Any]:
        """See `disturbed.two_at_once`."""
        found = two_at_once(self.root, self.plain, self.options.two, self.options.seed)
        rows = [tuple(found[key] for key in ("rounds", "first_killed", "clips", "begun", "scored"))]
        print_table("Two commands at once", ("rounds", "first killed", "clips", "begun", "scored"), rows)
        return found

    def signals(self) -> dict[str, Any]:
        """See `disturbed.signals`."""
        found = signals(self.root, self.plain, self.options.signals, self.options.seed, longest_s=self.longest_s)
        rows = [(found["signals"], found["median_s"], found["longest_s"], len(found["violations"]))]
        print_table("SIGINT and SIGTERM", ("signals", "median s", "longest s", "violations"), rows)
        rows = [(moment, number) for moment, number in sorted(found["moments"].items())]
        print_table("Sent while", ("it was", "signals"), rows)
        return found

    def memory(self) -> dict[str, Any]:
        """See `runaways.runaways` and `disturbed.lost_workers`."""
        made_up = runaways()
        rows = [(row["rung"], row["took_s"], row["said"]) for row in made_up["runaways"]]
        print_table("Runaways", ("rung", "s", "what the clip's failure says"), rows)
        lost = lost_workers(self.root, self.plain, self.options.workers, self.options.seed)
        rows = list(lost["workers_hit"].items())
        print_table(f"Workers lost, all clips scored ({lost['batches']} batches)", ("signal", "workers"), rows)
        return {**made_up, "lost": lost, "violations": [*made_up["violations"], *lost["violations"]]}

    def fuzz(self) -> dict[str, Any]:
        """See `fuzz_media.py`, which prints its own table."""
        program = Path(__file__).with_name("fuzz_media.py")
        flags = ("--files", self.options.fuzz, "--seed", self.options.seed, "--results", self.root)
        subprocess.run([sys.executable, program, *map(str, flags)])
        found = json.loads((self.root / "fuzz_media.json").read_text())
        found.pop("machine")
        return {**found, "violations": [f"{bad['file']}: {bad['outcome']}: {bad['text']}" for bad in found["bad"]]}


def main() -> None:
    """Disturb, print, write."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--only", default=",".join(PARTS), help=f"parts: {','.join(PARTS)}")
    for name, count in COUNTS.items():
        parser.add_argument(f"--{name}", type=int, default=count)
    parser.add_argument("--clips", type=int, default=CLIPS, help="clips in a batch")
    parser.add_argument("--seed", type=int, default=SEED)
    parser.add_argument("--minutes", type=float, default=math.inf, help="kills and signals stop after so long")
    parser.add_argument("--cores", type=int, default=2)
    parser.add_argument("--to", type=Path, default=RESULTS, help="folder of the results")
    options = parser.parse_args()
    if unknown := set(options.only.split(",")) - set(PARTS):
        parser.error(f"no such part: {', '.join(sorted(unknown))}")
    use_cores(options.cores)
    path = options.to / "reliability.json"
    results = json.loads(path.read_text()) if path.is_file() else {}
    with tempfile.TemporaryDirectory() as scratch:
        bench = Bench(Path(scratch), options)
        for part in options.only.split(","):
            facts = machine()
            found = getattr(bench, part)()
            results[part] = {"machine": facts, "seed": options.seed, **found}
            violations = found["violations"]
            print_table(f"{part}: violations", ("number",), [(len(violations),)])
            print("".join(f"    {text}\n" for text in violations), end="", flush=True)
            write_results("reliability", results, options.to)  # parts that were not run keep their figures
    raise SystemExit(1 if any(results[part]["violations"] for part in options.only.split(",")) else 0)


if __name__ == "__main__":
    main()
