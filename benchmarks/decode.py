"""How fast the decoder is: beside transformers' `generate`, beside the machine's own limit, with and without adapter.

Real layer sizes, random weights, guidance 3, top-k 250, text encoding included (transformers' time also holds a tiny
EnCodec, which takes next to nothing). Rivals run in turns in one process; the best of `--repeats` each counts.

    python benchmarks/decode.py                    # the CPU table, about a quarter of an hour on two cores
    python benchmarks/decode.py --device cuda      # small and large at 1 to 64 clips
    python benchmarks/decode.py --rows 512x8,limit --seconds 1
"""

from __future__ import annotations

import argparse
import gc
import json
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from bench import RESULTS, machine, print_table, use_cores, write_results
from random_models import RATE_HZ, WINDOW_STEPS, Place, bare_products, cues, library_run, ours, text_encoder, theirs

FOLDER_CLIPS = 16
AIMS = {"512x8": 2.0, "small": 1.2, "folder": 15.0, "limit": 0.70, "adapter": 1.35}
CUDA_CLIPS = (1, 8, 32, 64)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--rows", default="", help="only these rows of the table, with commas")
    parser.add_argument("--sizes", default="small,large", help="on CUDA: sizes, with commas")
    parser.add_argument("--seconds", type=float, default=10.0, help="length of a cue at 50 steps a second")
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--cores", type=int, default=0, help="use only so many processors; 0 for all")
    parser.add_argument("--no-transformers", action="store_true", help="on CUDA: leave the library's figures out")
    options = parser.parse_args()
    use_cores(options.cores)
    facts = machine()
    device = torch.device(options.device)
    steps = int(options.seconds * RATE_HZ)
    with tempfile.TemporaryDirectory(prefix="expotion-bench-") as folder:
        text = text_encoder(Path(folder), device)
        if device.type == "cuda":
            facts["device"] = torch.cuda.get_device_name(device)
            results = cuda_table(text, device, steps, options)
        else:
            results = cpu_table(text, device, steps, options)
    name = "decode" if device.type == "cpu" else f"decode_{device.type}"
    if options.rows and (RESULTS / f"{name}.json").is_file():  # the other rows stay
        earlier = json.loads((RESULTS / f"{name}.json").read_text())["results"]
        results = [row for row in earlier if row["row"] not in {r["row"] for r in results}] + results
    settings = {"repeats": options.repeats, "guidance": 3.0, "top_k": 250, "codebooks": 4}
    write_results(name, {"machine": facts, "settings": settings, "results": results})


def cpu_table(text: Any, device: torch.device, steps: int, options: argparse.Namespace) -> list[dict[str, Any]]:
    """The rows that a table of aims asks for."""
    wanted = options.rows.split(",") if options.rows else list(AIMS)
    fp32, bf16 = Place(device, torch.float32), Place(device, torch.bfloat16)
    results: list[dict[str, Any]] = []

    def add(row: str, what: str, ours_rate: float, theirs_rate: float, unit: str, better: str, aim: float) -> None:
        ratio = ours_rate / theirs_rate
        met = ratio >= aim if better == "at least" else ratio <= aim
        results.append({"row": row, "what": what, "seconds": steps / RATE_HZ,
                        "ours": round(ours_rate, 3), "beside": round(theirs_rate, 3), "unit": unit,
                        "ratio": round(ratio, 3), "aim": f"{better} {aim}", "met": met})  # fmt: skip
        print_table("", tuple(results[-1]), [tuple(results[-1].values())])

    for row, size, clips, places in (("512x8", "512x8", 4, (bf16, fp32)), ("small", "small", 2, (bf16,))):
        for place in places if row in wanted else ():
            engine, library = ours(size, place, text), theirs(size, place)
            best = in_turns(
                options.repeats,
                ours=lambda e=engine, n=clips: run(e, cues(n, steps)),
                theirs=lambda m=library, n=clips: library_run(m, text, n, steps),
            )
            what = f"{size} {name_of(place)}, {clips} clips, beside transformers in {name_of(place)}"
            rates = {who: clips * steps / seconds for who, seconds in best.items()}
            add(row, what, rates["ours"], rates["theirs"], "clip-steps/s", "at least", AIMS[row])
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


def cuda_table(text: Any, device: torch.device, steps: int, options: argparse.Namespace) -> list[dict[str, Any]]:
    """Milliseconds a step, seconds of music a second and share of bandwidth, sizes by clips."""
    place = Place(device, torch.bfloat16)
    bandwidth = copy_bandwidth(device)
    results: list[dict[str, Any]] = []
    for size in options.sizes.split(","):
        for adapter in (False, True):
            engine = ours(size, place, text, adapter=adapter)
            num_bytes = sum(p.numel() * p.element_size() for p in engine.decoder.parameters())
            for clips in CUDA_CLIPS:
                try:
                    batch = cues(clips, steps, seeing=adapter)
                    seconds = in_turns(options.repeats, ours=lambda e=engine, b=batch, n=clips: run(e, b, n))["ours"]
                except Exception as error:  # a size that does not fit is a result, too
                    results.append({"size": size, "adapter": adapter, "clips": clips, "error": str(error)[:200]})
                    continue
                share = num_bytes * steps / seconds / bandwidth
                results.append({"size": size, "adapter": adapter, "clips": clips, "who": "ours",
                                "ms_a_step": round(seconds / steps * 1e3, 3),
                                "music_s_per_s": round(clips * steps / RATE_HZ / seconds, 2),
                                "share_of_copy_bandwidth": round(share, 3),
                                "peak_gb": round(torch.cuda.max_memory_allocated() / 1e9, 2)})  # fmt: skip
                torch.cuda.reset_peak_memory_stats()
            del engine
            gc.collect()
            torch.cuda.empty_cache()
        if options.no_transformers:
            continue
        library = theirs(size, place)
        for clips in CUDA_CLIPS:
            seconds = in_turns(1, theirs=lambda m=library, n=clips: library_run(m, text, n, steps))["theirs"]
            results.append({"size": size, "adapter": False, "clips": clips, "who": "transformers",
                            "ms_a_step": round(seconds / steps * 1e3, 3),
                            "music_s_per_s": round(clips * steps / RATE_HZ / seconds, 2)})  # fmt: skip
        del library
        gc.collect()
        torch.cuda.empty_cache()
    head = ("size", "adapter", "clips", "who", "ms_a_step", "music_s_per_s", "share_of_copy_bandwidth", "error")
    print_table(f"Decoding on {torch.cuda.get_device_name(device)}, copies {bandwidth / 1e9:.0f} GB/s", head,
                [tuple(row.get(key) for key in head) for row in results])  # fmt: skip
    return [{"copy_bandwidth_gb_per_s": round(bandwidth / 1e9, 1)}, *results]


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
    source = torch.empty(1 << 30, dtype=torch.uint8, device=device)
    target = torch.empty_like(source)
    seconds = in_turns(5, copy=lambda: target.copy_(source))["copy"]
    return 2 * source.numel() / seconds


def name_of(place: Place) -> str:
    return {torch.float32: "fp32", torch.bfloat16: "bf16"}[place.dtype]


if __name__ == "__main__":
    main()
