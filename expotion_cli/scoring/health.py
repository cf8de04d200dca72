"""What this machine has of what scoring needs, and how to mend what it lacks. Nothing is changed, nothing downloaded.

Each check stands alone and imports what it needs: whatever is missing, the others still say their part.
"""

from __future__ import annotations

import importlib
import importlib.util
import os
import platform
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from expotion_cli.errors import ExpotionError, reason_of

FINE, OPTIONAL, WRONG = STATES = ("fine", "optional", "wrong")
"""As it should be; not there, and needed for some jobs only; something to mend."""
ROOM = 1 << 30
"""Free bytes below which a batch soon fills the disk."""
EXTRAS = {"ray": "ray", "s3": "s3fs", "gcs": "gcsfs", "train": "music21"}
"""Optional part of the package → the library that it brings."""
LIBRARIES = ("numpy", "scipy", "torch", "torchvision", "transformers", "peft", "safetensors", "tokenizers", "symusic",
             "av", "mediapipe", "PIL", "fsspec", "filelock")  # fmt: skip
ENCODERS = {"aac": "MP4 and MOV", "libopus": "WebM", "flac": "--audio-codec flac"}
"""Sound encoders of ffmpeg, and what they are for."""
_AGAIN = "Install the package again: pip install --force-reinstall expotion"


@dataclass(frozen=True)
class Finding:
    """What one check found.

    Attributes:
        name: of what was looked at.
        state: of `STATES`.
        said: what it found, in one line.
        remedy: how to mend it; empty where nothing needs to be.
    """

    name: str
    state: str
    said: str
    remedy: str = ""


def examine(out: Path, device: str = "auto") -> Iterator[Finding]:
    """Look at everything, one after the other.

    Args:
        out: where results would go; it is not made.
        device: as `--device` names it.
    """
    checks: dict[str, Callable[[], Iterator[Finding]]] = {
        "python": _python,
        "libraries": _libraries,
        "device": lambda: _device(device),
        "ffmpeg": _ffmpeg,
        "system libraries": _system_libraries,
        "models": _models,
        "streams": _streams,
        "soundfont": _soundfont,
        "recipes": _recipes,
        "cache": _cache,
        "output": lambda: _output(out),
        "extras": _extras,
    }
    for name, check in checks.items():
        try:
            yield from check()
        except ExpotionError as error:
            said = f"{error.path}: {error.reason}" if error.path is not None else error.reason
            yield Finding(name, WRONG, said, error.remedy or _AGAIN)
        except Exception as error:  # a broken library may raise anything
            yield Finding(name, WRONG, f"it can't be examined: {type(error).__name__}: {reason_of(error)}", _AGAIN)


def _python() -> Iterator[Finding]:
    from expotion_cli.version import __version__

    said = f"expotion {__version__}, Python {platform.python_version()}, {platform.platform(terse=True)}"
    yield Finding("python", FINE, said)


def _libraries() -> Iterator[Finding]:
    """Whether they are there; those that scoring imports first are imported, as a broken one shows only then."""
    broken: dict[str, str] = {}
    for name in LIBRARIES:
        try:
            if name in ("numpy", "torch", "av", "symusic"):
                importlib.import_module(name)
            elif name in sys.modules:
                broken |= {} if sys.modules[name] is not None else {name: "not installed"}
            elif importlib.util.find_spec(name) is None:
                broken[name] = "not installed"
        except ModuleNotFoundError as error:
            broken[name] = "not installed" if error.name in (None, name) else f"needs {error.name}"
        except Exception as error:
            broken[name] = reason_of(error)
    for name, reason in broken.items():
        yield Finding("libraries", WRONG, f"{name}: {reason}", _AGAIN)
    if not broken:
        yield Finding("libraries", FINE, f"all {len(LIBRARIES)} are there")


def _device(device: str) -> Iterator[Finding]:
    import torch

    from expotion_cli.music.load import choose_device, has_bf16

    chosen = choose_device(device)
    if chosen.type != "cpu":
        name = torch.cuda.get_device_name(chosen) if chosen.type == "cuda" else str(chosen)
        yield Finding("device", FINE, f"{chosen}: {name}, bf16")
        return
    cores = os.cpu_count() or 1
    numbers = "fp32 for small models, bf16 for large ones" if has_bf16() else "fp32 (this processor has no bf16)"
    said = f"cpu: {cores} core{'s' * (cores > 1)}, {numbers}"
    if device == "auto" and shutil.which("nvidia-smi") is not None:
        remedy = "Install a CUDA build of torch (pytorch.org), or update the driver; or go on without."
        yield Finding("device", OPTIONAL, f"{said}; torch {torch.__version__} can't use the GPU", remedy)
    else:
        yield Finding("device", FINE, said)


def _ffmpeg() -> Iterator[Finding]:
    from expotion_cli.media.ffmpeg import ffmpeg_exe

    exe = ffmpeg_exe()
    remedy = "Reinstall imageio-ffmpeg, or set IMAGEIO_FFMPEG_EXE to an ffmpeg binary."
    try:
        version, encoders = (
            subprocess.run([exe, "-hide_banner", flag], capture_output=True, text=True, timeout=30, check=True).stdout
            for flag in ("-version", "-encoders")
        )
    except (OSError, subprocess.SubprocessError) as error:
        yield Finding("ffmpeg", WRONG, f"{exe} can't be run ({reason_of(error)})", remedy)
        return
    words = (version.split("\n", 1)[0].split() + [""] * 3)[2]
    yield Finding("ffmpeg", FINE, f"{words}, {exe}")
    known = {line.split()[1] for line in encoders.splitlines() if len(line.split()) > 1}
    for name, use in ENCODERS.items():
        if name not in known:
            yield Finding("ffmpeg", WRONG, f"it has no encoder {name}, which {use} need", remedy)


def _system_libraries() -> Iterator[Finding]:
    from expotion_cli.vision.libraries import missing_libraries

    lacking = missing_libraries()
    if lacking:
        said = f"{', '.join(lacking)} can't be loaded: face and body won't be seen, only motion"
        yield Finding(
            "system libraries", WRONG, said, f"On Debian or Ubuntu: apt-get install {' '.join(lacking.values())}"
        )
    else:
        yield Finding("system libraries", FINE, "all that MediaPipe needs")


def _models() -> Iterator[Finding]:
    from expotion_cli.weights.manifest import read_manifests, size_text

    absent = []
    for manifest in read_manifests().values():
        states = {file.name: file.state(thorough=manifest.ships) for file in manifest.files}
        bad = [f"{name} is {state}" for name, state in states.items() if state != "here"]
        if manifest.ships and bad:
            yield Finding("models", WRONG, f"{manifest.name}: {', '.join(bad)}", _AGAIN)
        elif bad and set(states.values()) == {"missing"}:
            absent.append(manifest.name)
        elif bad:
            yield Finding("models", WRONG, f"{manifest.name}: {', '.join(bad)}", f"Run: expotion fetch {manifest.name}")
        elif manifest.kind == "music":
            size = size_text(manifest.about_bytes)
            yield Finding("models", FINE, f"{manifest.name}, {size}" + (", verified" if manifest.ships else ""))
    if absent:
        yield Finding("models", OPTIONAL, f"not fetched: {', '.join(absent)}", "Run: expotion fetch NAME")


def _streams() -> Iterator[Finding]:
    from expotion_cli.recipe import Streams
    from expotion_cli.vision.encoder import REGISTRY, make_encoder

    can, used = [], Streams().use
    for name in REGISTRY:
        try:
            reason = make_encoder(name).unavailable()
        except Exception as error:
            reason = f"{type(error).__name__}: {reason_of(error)}"
        if reason is None:
            can.append(name)
        elif name in used:
            yield Finding("streams", WRONG, f"{name} is left out", reason)
    if can:
        yield Finding("streams", FINE, f"can be seen: {', '.join(can)}")


def _soundfont() -> Iterator[Finding]:
    from expotion_cli.music.codecs.notes.soundfont import load_soundfont

    yield Finding("soundfont", FINE, load_soundfont().path.name)


def _recipes() -> Iterator[Finding]:
    from expotion_cli.recipe import load_recipe
    from expotion_cli.recipe_files import own_folder, own_recipes, shipped_recipes

    for path in shipped_recipes().values():
        load_recipe(path)
    own = own_recipes()
    wrong = 0
    for name in own:
        try:
            load_recipe(name)
        except ExpotionError as error:
            wrong += 1
            yield Finding(
                "recipes", WRONG, f"{error.path or own[name]}: {error.reason}", error.remedy or "Mend the file."
            )
    yield Finding("recipes", FINE, f"{len(shipped_recipes())} ship, {len(own) - wrong} of your own in {own_folder()}")


def _cache() -> Iterator[Finding]:
    from expotion_cli.storage import cache_root

    yield from _place("cache", cache_root(), "Set EXPOTION_CACHE to another folder.")


def _output(out: Path) -> Iterator[Finding]:
    yield from _place("output", out, "Choose another with --out.")


def _place(name: str, folder: Path, remedy: str) -> Iterator[Finding]:
    """Whether a folder, or the one it would be made in, can be written, and how much room there is."""
    there = folder.absolute()
    while not there.exists() and there != there.parent:
        there = there.parent
    try:
        handle, probe = tempfile.mkstemp(dir=there, prefix=".expotion-write-test.", suffix=".partial")
        os.close(handle)
        os.unlink(probe)
        free = shutil.disk_usage(there).free
    except OSError as error:
        yield Finding(name, WRONG, f"{folder} can't be written ({reason_of(error)})", remedy)
        return
    said = f"{folder}, {free / 1e9:.1f} GB free"
    if free < ROOM:
        yield Finding(name, WRONG, said, f"Free some space. {remedy}")
    else:
        yield Finding(name, FINE, said)


def _extras() -> Iterator[Finding]:
    absent = [extra for extra, library in EXTRAS.items() if importlib.util.find_spec(library) is None]
    here = [extra for extra in EXTRAS if extra not in absent]
    if here:
        yield Finding("extras", FINE, f"installed: {', '.join(here)}")
    for extra in absent:
        yield Finding("extras", OPTIONAL, f"{extra} is not installed", f'For it: pip install "expotion[{extra}]"')
