"""What regression renders notice: a reference of short clips, checked again unchanged, and with one fault at a time.

    python benchmarks/regress.py [--repeats 20] [--recipe cinematic] [--seconds 4]

Needs ffmpeg's libx264, which comes with the package, to cut the demo clips. Nothing of the reference is kept.
"""

from __future__ import annotations

import argparse
import contextlib
import dataclasses
import shutil
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
from bench import machine, print_table, use_cores, write_results

CLIPS = ("sway", "rise")
DISTURBED_SHARE = 0.02


def main() -> None:
    """Record, check, break, check."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--repeats", type=int, default=20, help="unchanged checks in a row")
    parser.add_argument("--recipe", default="cinematic")
    parser.add_argument("--seconds", type=float, default=4.0, help="length of each clip")
    parser.add_argument("--cores", type=int, default=0, help="processors to use; 0 for all")
    arguments = parser.parse_args()
    use_cores(arguments.cores)
    facts = machine()
    with tempfile.TemporaryDirectory(prefix="expotion-regress-") as folder:
        bench = Bench(Path(folder), arguments.recipe, arguments.seconds)
        unchanged = bench.unchanged(arguments.repeats)
        faults = [bench.fault(name, put) for name, put in bench.faults().items()]
        encoders = [bench.fault(name, put) for name, put in bench.harmless().items()]
        truncated = bench.truncated_weights()
    names = list(unchanged["largest"])
    verdict = "same" if unchanged["green"] == arguments.repeats else "drift"
    rows = [("none, largest of all", verdict, "-", "-", *unchanged["largest"].values())]
    rows += [
        (fault["fault"], fault["exact"], fault["sound"], fault["named"], *fault["smallest"].values())
        for fault in (*encoders, *faults)
    ]
    title = f"{len(CLIPS)} clips of {arguments.seconds:g} s; {unchanged['green']} of {arguments.repeats} checks green"
    print_table(title, ("change", "exact", "by sound", "named", *names), rows)
    print(f"  weights cut short: {truncated['error']} (exit code {truncated['exit_code']})")
    write_results(
        "regress",
        {
            "machine": facts,
            "recipe": arguments.recipe,
            "clips": {"names": CLIPS, "seconds": arguments.seconds},
            "bytes": bench.num_bytes,
            "tolerances": bench.tolerances(),
            "unchanged": unchanged,
            "harmless": encoders,
            "faults": faults,
            "truncated_weights": truncated,
        },
    )


class Bench:
    """A reference in a folder of its own, and ways to disturb what it was recorded with.

    Args:
        root: empty folder.
        recipe: a shipped recipe, copied so that it can be changed.
        seconds: length of the clips.
    """

    def __init__(self, root: Path, recipe: str, seconds: float):
        from expotion_cli.assets import shipped_folder
        from expotion_cli.recipe import load_recipe
        from expotion_cli.regression import recording

        self.root, self.folder = root, root / "renders"
        self.recipe, self.model = root / "mine.toml", root / "model"
        shutil.copy(load_recipe(recipe).path, self.recipe)
        shutil.copytree(shipped_folder("models") / "expotion-mini", self.model)
        _write_clips(root / "clips", seconds)
        options = {
            "name": str(self.model),
            "adapter": str(self.model / "adapter"),
            "soundfont": None,
            "device": "cpu",
            "dtype": "fp32",
        }
        clips, problems = recording.find_clips([root / "clips"], self.folder)
        assert not problems, problems
        started = time.monotonic()
        wanted = recording.RecordingOptions(str(self.recipe), {}, options)
        recording.record(clips, self.folder, wanted, lambda: _load(**options))
        self.num_bytes = sum(path.stat().st_size for path in self.folder.iterdir())
        print(f"recorded in {time.monotonic() - started:.0f} s, {self.num_bytes / 1e6:.1f} MB", flush=True)

    def check(self, mode: str, load: Callable[..., Any] | None = None) -> Any:
        """One check, all from files."""
        from expotion_cli.regression.checking import check
        from expotion_cli.regression.reference import read_reference

        return check(read_reference(self.folder), load or _load, mode=mode)

    def tolerances(self) -> dict[str, float]:
        """The limits in force."""
        from expotion_cli.regression.measures import TOLERANCES

        return {tolerance.name: tolerance.limit for tolerance in TOLERANCES}

    def unchanged(self, repeats: int) -> dict[str, Any]:
        """Check again and again: exact, everything loaded anew each time."""
        green, largest, seconds = 0, dict.fromkeys(self.tolerances(), 0.0), []
        for number in range(repeats):
            result = self.check("exact")
            green += result.exit_code == 0
            seconds.append(result.duration_s)
            for clip in result.clips:
                for name, value in clip.distances.items():
                    largest[name] = max(largest[name], value or 0.0)
            print(f"unchanged {number + 1}/{repeats}: exit code {result.exit_code}", flush=True)
        return {
            "checks": repeats,
            "green": green,
            "largest": largest,
            "seconds": round(float(np.median(seconds)), 1) if seconds else None,
        }

    def fault(self, name: str, put: Callable[[], contextlib.AbstractContextManager]) -> dict[str, Any]:
        """Check with a fault in place, by tokens and by sound alone; then take it away."""
        with put():
            exact, sound = self.check("exact"), self.check("perceptual")
        named = list(dict.fromkeys(d.what for clip in exact.clips for d in clip.differences))
        named += [m for m in self.tolerances() if any(m in clip.beyond for clip in exact.clips)]
        caught_by = [m for m in self.tolerances() if all(m in clip.beyond for clip in sound.clips)]
        smallest: dict[str, float | None] = {}
        for measure in self.tolerances():
            values = [clip.distances[measure] for clip in sound.clips if clip.distances.get(measure) is not None]
            smallest[measure] = round(min(values), 3) if values else None
        largest = {m: round(max(clip.distances[m] or 0.0 for clip in sound.clips), 3) for m in self.tolerances()}
        print(f"{name}: exact {_verdict(exact)}, by sound {_verdict(sound)}", flush=True)
        return {
            "fault": name,
            "exact": _verdict(exact),
            "sound": _verdict(sound),
            "named": ", ".join(n.partition(" (")[0] for n in named) or "-",
            "beyond_in_every_clip": caught_by,
            "smallest": smallest,
            "largest": largest,
        }

    def faults(self) -> dict[str, Callable[[], contextlib.AbstractContextManager]]:
        """What must be caught."""
        return {
            "prompt: 'solo harp, night'": lambda: self._recipe_line("prompt", '"solo harp, night"'),
            "seed: per-clip:1": lambda: self._recipe_line("seed", '"per-clip:1"'),
            "1 dB too loud": lambda: _lying_meter(1.0),
            "1 dB too quiet": lambda: _lying_meter(-1.0),
            "50 ms late": lambda: _late(0.05),
            f"{DISTURBED_SHARE:.0%} of one layer's weights": self._disturbed_weights,
        }

    def harmless(self) -> dict[str, Callable[[], contextlib.AbstractContextManager]]:
        """What should pass by sound: the same music through other encoders, or composed with more threads."""
        return {
            "two threads": _threads,
            "AAC at 160 kbit/s": _smaller_aac,
            "Opus for AAC": lambda: _encoder("opus"),
            "FLAC for AAC": lambda: _encoder("flac"),
        }

    def truncated_weights(self) -> dict[str, Any]:
        """Weights that are cut short are an error, not drift."""
        from expotion_cli.errors import ExpotionError

        path = self.model / "model.safetensors"
        with _put_back(path):
            path.write_bytes(path.read_bytes()[:-1000])
            try:
                self.check("exact")
            except ExpotionError as error:
                return {"error": type(error).__name__, "exit_code": error.exit_code}
        raise AssertionError("cut weights were taken")

    @contextlib.contextmanager
    def _recipe_line(self, key: str, value: str) -> Iterator[None]:
        with _put_back(self.recipe):
            lines = self.recipe.read_text().splitlines()
            self.recipe.write_text("\n".join(f"{key} = {value}" if x.startswith(f"{key} =") else x for x in lines))
            yield

    @contextlib.contextmanager
    def _disturbed_weights(self) -> Iterator[None]:
        from safetensors.numpy import load_file, save_file

        path = self.model / "model.safetensors"
        with _put_back(path):
            tensors = load_file(path)
            name = next(name for name in sorted(tensors) if "layers.1.self_attn.v_proj" in name)
            broken = tensors[name].copy().reshape(-1)
            rng = np.random.default_rng(0)
            chosen = rng.choice(len(broken), int(len(broken) * DISTURBED_SHARE), replace=False)
            broken[chosen] = -8 * broken[chosen]
            save_file(tensors | {name: broken.reshape(tensors[name].shape)}, path, metadata={"format": "pt"})
            yield


def _load(**options: Any) -> Any:
    from expotion_cli.music.load import load_model

    return load_model(options.pop("name"), **options)


def _verdict(result: Any) -> str:
    return "same" if result.exit_code == 0 else "drift" if result.count("drift") == len(result.clips) else "partly"


def _write_clips(folder: Path, seconds: float) -> None:
    """The first seconds of demo clips."""
    import ffmpeg

    from expotion_cli.demo import write_demo_clips
    from expotion_cli.media import ffmpeg as tool

    folder.mkdir()
    with tempfile.TemporaryDirectory() as whole:
        write_demo_clips(Path(whole))
        for name in CLIPS:
            source = ffmpeg.input(str(Path(whole) / f"{name}.mp4"))
            tool.run(ffmpeg.output(source["v:0"], str(folder / f"{name}.mp4"), t=seconds, vcodec="libx264"))


@contextlib.contextmanager
def _put_back(path: Path) -> Iterator[None]:
    content = path.read_bytes()
    try:
        yield
    finally:
        path.write_bytes(content)


@contextlib.contextmanager
def _instead(module: Any, name: str, value: Any) -> Iterator[None]:
    kept = getattr(module, name)
    setattr(module, name, value)
    try:
        yield
    finally:
        setattr(module, name, kept)


def _lying_meter(by_lu: float) -> contextlib.AbstractContextManager:
    """The meter that sets the loudness reads too little, so that the result is too loud."""
    from expotion_cli.media import remux

    honest = remux.measure

    def measure(*arguments: Any, **options: Any) -> Any:
        found = honest(*arguments, **options)
        return dataclasses.replace(found, integrated_lufs=found.integrated_lufs - by_lu)

    return _instead(remux, "measure", measure)


def _late(by_s: float) -> contextlib.AbstractContextManager:
    """The music begins too late."""
    from expotion_cli.scoring import ladder

    prompt = ladder.render

    def render(*arguments: Any, **options: Any) -> Any:
        score = prompt(*arguments, **options)
        lead = np.pad(score.audio, ((0, 0), (round(by_s * score.sample_rate), 0)))
        return dataclasses.replace(score, audio=lead[:, : score.audio.shape[1]])

    return _instead(ladder, "render", render)


def _smaller_aac() -> contextlib.AbstractContextManager:
    """The sound is encoded with fewer bits."""
    from expotion_cli.media import remux

    return _instead(remux, "ENCODERS", {**remux.ENCODERS, "aac": {"acodec": "aac", "audio_bitrate": "160k"}})


@contextlib.contextmanager
def _encoder(codec: str) -> Iterator[None]:
    """The sound goes through another encoder, in a container that takes it."""
    from expotion_cli.media import remux

    codecs = {**remux.CODECS, "matroska": (codec,)}
    with _instead(remux, "CODECS", codecs), _instead(remux, "output_suffix", lambda clip: ".mkv"):
        yield


@contextlib.contextmanager
def _threads() -> Iterator[None]:
    import torch

    before = torch.get_num_threads()
    torch.set_num_threads(2)
    try:
        yield
    finally:
        torch.set_num_threads(before)


if __name__ == "__main__":
    main()
