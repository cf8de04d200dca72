"""How fast the decoder is: beside transformers' `generate`, beside the machine's own limit, with and without adapter.

Real layer sizes, random weights, guidance 3, top-k 250, text encoding included (transformers' time also holds a tiny
EnCodec, which takes next to nothing). Rivals run in turns in one process; the best of `--repeats` each counts.

    python benchmarks/decode.py                          # the CPU table, about a quarter of an hour on two cores
    python benchmarks/decode.py --rows 512x8,limit --seconds 1
    python benchmarks/decode.py --device cuda            # small and large at 1 to 64 clips, with and without adapter
    python benchmarks/decode.py --device cuda --quick    # the same within ten minutes, most telling rows first
    python benchmarks/decode.py --quick --sizes mini --seconds 0.1 --clips 1,2 --out DIR    # that table tried on a CPU

The GPU's table is written after each row, so that a run that is cut off keeps what it has. A row that fails (memory,
say) states why, and the next one begins; a row whose batch did not fit is marked with the batch that did.
"""

from __future__ import annotations

import argparse
import gc
import itertools
import json
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from bench import RESULTS, machine, print_table, use_cores, write_results
from random_models import RATE_HZ, WINDOW_STEPS, Place, bare_products, cues, library_run, ours, text_encoder, theirs

from expotion_cli import storage

FOLDER_CLIPS = 16
SHORT_SECONDS, SHORT_REPEATS = (1, 2, 4), 7
AIMS = {"512x8": 2.0, "short": 2.0, "small": 1.2, "folder": 15.0, "limit": 0.70, "adapter": 1.35}
QUICK_SECONDS, QUICK_REPEATS = 4.0, 2
QUICK_BUDGET_S = 540.0
"""No row of a quick run begins later; those that were not measured are named."""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--rows", default="", help="only these rows of the table, with commas")
    parser.add_argument("--sizes", default="small,large", help="of the GPU's table, with commas")
    parser.add_argument("--clips", default="1,8,32,64", help="of the GPU's table: clips together, with commas")
    parser.add_argument("--seconds", type=float, help="length of a cue at 50 steps a second: 10, or 4 if quick")
    parser.add_argument("--repeats", type=int, help="measured rounds, of which the best counts: 3, or 2 if quick")
    parser.add_argument("--quick", action="store_true", help="the GPU's table within ten minutes; on a CPU, to try it")
    parser.add_argument("--out", type=Path, default=RESULTS, help="folder of the JSON")
    parser.add_argument("--cores", type=int, default=0, help="use only so many processors; 0 for all")
    parser.add_argument(
        "--no-transformers", action="store_true", help="leave the library's figures out of the GPU's table"
    )
    options = parser.parse_args()
    options.seconds = options.seconds or (QUICK_SECONDS if options.quick else 10.0)
    options.repeats = options.repeats or (QUICK_REPEATS if options.quick else 3)
    use_cores(options.cores)
    facts = machine()
    device = torch.device(options.device)
    steps = int(options.seconds * RATE_HZ)
    settings = {"repeats": options.repeats, "seconds": options.seconds, "guidance": 3.0, "top_k": 250, "codebooks": 4}
    is_gpu_table = options.quick or device.type == "cuda"
    name = ("decode_cuda" if device.type == "cuda" else "decode_tried") if is_gpu_table else "decode"
    if device.type == "cuda":
        facts |= {"device": torch.cuda.get_device_name(device), "torch": torch.__version__}
    with tempfile.TemporaryDirectory(prefix="expotion-bench-") as folder:
        text = text_encoder(Path(folder), device)
        if is_gpu_table:
            path = options.out / f"{name}.json"
            GpuTable(
                text, device, steps, options,
                lambda rows: storage.write_json(path, {"machine": facts, "settings": settings, "results": rows}),
            ).measure()  # fmt: skip
            return
        results = cpu_table(text, device, steps, options)
    if options.rows and (options.out / f"{name}.json").is_file():  # the other rows stay
        earlier = json.loads((options.out / f"{name}.json").read_text())["results"]
        results = [row for row in earlier if row["row"] not in {r["row"] for r in results}] + results
    write_results(name, {"machine": facts, "settings": settings, "results": results}, options.out)


def cpu_table(text: Any, device: torch.device, steps: int, options: argparse.Namespace) -> list[dict[str, Any]]:
    """The rows that a table of aims asks for."""
    wanted = options.rows.split(",") if options.rows else list(AIMS)
    fp32, bf16 = Place(device, torch.float32), Place(device, torch.bfloat16)
    results: list[dict[str, Any]] = []

    def add(
        row: str, what: str, ours_rate: float, theirs_rate: float, unit: str, better: str, aim: float,
        seconds: float = 0.0,
    ) -> None:  # fmt: skip
        ratio = ours_rate / theirs_rate
        met = ratio >= aim if better == "at least" else ratio <= aim
        results.append({"row": row, "what": what, "seconds": seconds or steps / RATE_HZ,
                        "ours": round(ours_rate, 3), "beside": round(theirs_rate, 3), "unit": unit,
                        "ratio": round(ratio, 3), "aim": f"{better} {aim}", "met": met})  # fmt: skip
        print_table("", tuple(results[-1]), [tuple(results[-1].values())])

    lengths_s = {"512x8": [steps / RATE_HZ], "short": SHORT_SECONDS, "small": [steps / RATE_HZ]}
    for row, size, clips, places in (
        ("512x8", "512x8", 4, (bf16, fp32)), ("short", "512x8", 4, (bf16, fp32)), ("small", "small", 2, (bf16,)),
    ):  # fmt: skip
        for place in places if row in wanted else ():
            engine, library = ours(size, place, text), theirs(size, place)
            for seconds in lengths_s[row]:
                count = int(seconds * RATE_HZ)
                best = in_turns(
                    SHORT_REPEATS if row == "short" else options.repeats,
                    ours=lambda e=engine, n=clips, c=count: run(e, cues(n, c)),
                    theirs=lambda m=library, n=clips, c=count: library_run(m, text, n, c),
                )
                what = f"{size} {name_of(place)}, {clips} clips of {seconds:g} s, beside transformers in the same type"
                rates = {who: clips * count / took_s for who, took_s in best.items()}
                add(row, what, rates["ours"], rates["theirs"], "clip-steps/s", "at least", AIMS[row], seconds)
            del engine, library
            gc.collect()
    if "folder" in wanted:
        engine, library = ours("small", bf16, text), theirs("small", fp32)
        sampled = 1  # clip by clip, one is as slow as the next
        best = in_turns(
            max(1, options.repeats - 2),
            ours=lambda: run(engine, cues(FOLDER_CLIPS, steps)),
            theirs=lambda: library_run(library, text, sampled, steps, one_by_one=True),
        )
        what = f"small, a folder of {FOLDER_CLIPS} clips by default, beside transformers in fp32, clip by clip"
        add("folder", what, FOLDER_CLIPS * steps / best["ours"], sampled * steps / best["theirs"], "clip-steps/s",
            "at least", AIMS["folder"])  # fmt: skip
        del engine, library
        gc.collect()
    if "limit" in wanted:
        started = time.perf_counter()
        engine = ours("small", bf16, text)
        quantum, ready_s = engine._quantum, time.perf_counter() - started
        rows = 2  # one clip with guidance
        bare, num_bytes = bare_products("small", bf16, rows)
        best = in_turns(
            options.repeats,
            ours=lambda: run(engine, cues(1, steps)),
            theirs=lambda: [bare() for _ in range(steps)],
        )
        what = f"small bf16, 1 clip: share of bare `linear` calls over the same weights ({rows} rows)"
        add("limit", what, steps / best["ours"], steps / best["theirs"], "steps/s", "at least", AIMS["limit"])
        results[-1] |= {"row_quantum": quantum, "made_packed_and_checked_s": round(ready_s, 2)}
        results[-1]["weights_gb_per_s"] = round(num_bytes * steps / best["ours"] / 1e9, 2)
        del engine, bare
        gc.collect()
    if "adapter" in wanted:
        plain, seeing = ours("small", bf16, text), ours("small", bf16, text, adapter=True)
        steps = WINDOW_STEPS  # the side stream is computed once a window: at less than 10 s it would weigh too much
        best = in_turns(
            max(1, options.repeats - 1),
            ours=lambda: run(seeing, cues(2, steps, seeing=True)),
            theirs=lambda: run(plain, cues(2, steps)),
        )
        what = "small bf16, 2 clips of 10 s: time with an adapter on all layers over time without"
        add("adapter", what, best["ours"] / steps * 1e3, best["theirs"] / steps * 1e3, "ms a step", "at most",
            AIMS["adapter"])  # fmt: skip
    print_table(
        "Decoding on the CPU",
        ("", "ours", "beside", "unit", "ratio", "aim", "met"),
        [(r["what"], r["ours"], r["beside"], r["unit"], r["ratio"], r["aim"], r["met"]) for r in results],
    )
    return results


class GpuTable:
    """Milliseconds a step, seconds of music a second and share of the copy bandwidth, sizes by clips.

    Ours comes first for all sizes, then transformers. Every row is printed and written as soon as it is there.
    """

    HEAD = ("size", "adapter", "clips", "who", "ms_a_step", "music_s_per_s", "share_of_copy_bandwidth", "peak_gb",
            "error")  # fmt: skip

    def __init__(
        self,
        text: Any,
        device: torch.device,
        steps: int,
        options: argparse.Namespace,
        write: Callable[[list[dict[str, Any]]], None],
    ):
        self.text, self.steps, self.options, self.write = text, steps, options, write
        self.place = Place(device, torch.bfloat16 if device.type == "cuda" else torch.float32)
        self.clips = [int(count) for count in options.clips.split(",")]
        self.began = time.perf_counter()
        self.bandwidth = copy_bandwidth(device)
        self.rows: list[dict[str, Any]] = []

    def measure(self) -> None:
        """Measure all rows and print them together."""
        sizes = self.options.sizes.split(",")
        for size, adapter in itertools.product(sizes, (False, True)):
            self.measure_model(size, "ours", adapter)
        for size in () if self.options.no_transformers else sizes:
            self.measure_model(size, "transformers")
        where = torch.cuda.get_device_name(self.place.device) if self.place.device.type == "cuda" else "the CPU"
        took_s = time.perf_counter() - self.began
        print_table(f"Decoding on {where}, copies {self.bandwidth / 1e9:.0f} GB/s, {took_s:.0f} s in all", self.HEAD,
                    [tuple(row.get(key) for key in self.HEAD) for row in self.rows])  # fmt: skip

    def measure_model(self, size: str, who: str, adapter: bool = False) -> None:
        """One model, made once, at all numbers of clips."""
        model, unmade = self.tried(
            lambda: ours(size, self.place, self.text, adapter=adapter) if who == "ours" else theirs(size, self.place)
        )
        for clips in self.clips:
            found, error = None, unmade
            if not error and self.is_late():
                error = f"left out: {QUICK_BUDGET_S:.0f} s were over"
            if not error:
                found, error = self.tried(lambda n=clips: self.measured(model, who, adapter, n))
            self.add({"size": size, "adapter": adapter, "clips": clips, "who": who, **(found or {"error": error})})
        model = None
        forget()

    def measured(self, model: Any, who: str, adapter: bool, clips: int) -> dict[str, Any]:
        """The figures of one row."""
        is_cuda = self.place.device.type == "cuda"
        if is_cuda:
            torch.cuda.reset_peak_memory_stats()
        if who == "ours":
            batch = cues(clips, self.steps, seeing=adapter)
            model._most = None  # what did not fit before is told of that row alone
            seconds = in_turns(self.options.repeats, ours=lambda: run(model, batch, clips))["ours"]
        else:
            seconds = in_turns(1, theirs=lambda: library_run(model, self.text, clips, self.steps))["theirs"]
        found: dict[str, Any] = {
            "ms_a_step": round(seconds / self.steps * 1e3, 3),
            "music_s_per_s": round(clips * self.steps / RATE_HZ / seconds, 2),
        }
        if who == "ours":
            num_bytes = sum(p.numel() * p.element_size() for p in model.decoder.parameters())
            found["share_of_copy_bandwidth"] = round(num_bytes * self.steps / seconds / self.bandwidth, 3)
            if model._most is not None:
                found["error"] = f"memory for {model._most} together"
        if is_cuda:
            found["peak_gb"] = round(torch.cuda.max_memory_allocated() / 1e9, 2)
        return found

    def tried(self, work: Callable[[], Any]) -> tuple[Any, str]:
        """(what comes of it, why nothing does): what does not fit is a result, too."""
        try:
            return work(), ""
        except Exception as error:
            reason = f"{type(error).__name__}: {' '.join(str(error).split())[:200]}"
        forget()  # only here, where no traceback holds on to what did not fit
        return None, reason

    def is_late(self) -> bool:
        """Whether a quick run's time is over."""
        return self.options.quick and time.perf_counter() - self.began > QUICK_BUDGET_S

    def add(self, row: dict[str, Any]) -> None:
        """Keep a row, on disk too, and say it."""
        self.rows.append(row)
        print("  ".join(f"{key} {value}" for key, value in row.items()), flush=True)
        self.write([{"copy_bandwidth_gb_per_s": round(self.bandwidth / 1e9, 1)}, *self.rows])


def forget() -> None:
    """Give memory back that nothing refers to any more."""
    gc.collect()
    if torch.cuda.is_available():
        torch.cuda.empty_cache()


def run(engine: Any, batch: list, size: int | str = "auto") -> None:
    for _ in engine.generate(batch, batch_size=size):
        pass


def in_turns(repeats: int, **rivals: Callable[[], Any]) -> dict[str, float]:
    """Best seconds of each, after one short unmeasured round; the rivals take turns."""
    best = dict.fromkeys(rivals, float("inf"))
    for attempt in range(repeats + (1 if torch.cuda.is_available() else 0)):
        for name, work in rivals.items():
            if torch.cuda.is_available():
                torch.cuda.synchronize()
            started = time.perf_counter()
            work()
            if torch.cuda.is_available():
                torch.cuda.synchronize()
            if attempt or not torch.cuda.is_available():  # the first round on a GPU also captures and compiles
                best[name] = min(best[name], time.perf_counter() - started)
    return best


def copy_bandwidth(device: torch.device) -> float:
    """Bytes read and written a second when a large buffer is copied."""
    source = torch.zeros(1 << (30 if device.type == "cuda" else 26), dtype=torch.uint8, device=device)
    target = torch.empty_like(source)
    seconds = in_turns(5, copy=lambda: target.copy_(source))["copy"]
    return 2 * source.numel() / seconds


def name_of(place: Place) -> str:
    return {torch.float32: "fp32", torch.bfloat16: "bf16"}[place.dtype]


if __name__ == "__main__":
    main()
