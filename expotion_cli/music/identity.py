"""Which model it is, without loading it: what digests, notes and sidecars need to know of a model.

Loading a model tells who it is; that is remembered in the cache under the state of everything that decides it (the
arguments, the weights' and soundfont's files, this program, the libraries, the machine). A later run that only has to
find out whether its results are there already asks here and imports no torch.
"""

from __future__ import annotations

import contextlib
import os
import platform
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, fields
from importlib import metadata
from pathlib import Path
from typing import Any

from expotion_cli import storage
from expotion_cli.errors import ExpotionError
from expotion_cli.hints import state_of
from expotion_cli.version import __version__

MINI, MELODIST = "mini", "expotion-mini"
"""What `melody` says for melodies that the embedded model composes; that model."""
LARGEST_WIDTH = 1 << 16
"""Of an embedding stream; a file that states more is refused before anything is built."""
MOST_FILES = 2000
"""A folder with more files than this is not a model folder, and is not remembered."""
_LIBRARIES = ("torch", "transformers", "peft", "safetensors", "numpy", "av", "audiocraft", "diffusers")


@dataclass(frozen=True)
class ModelIdentity:
    """What tells one model from another.

    Attributes:
        name: as the user called it.
        digest: hash of all that decides its tokens (`Model.digest`).
        codec_digest: hash of all that decides the sound of given tokens (`Codec.digest`).
        licence: of its weights.
        backbone: what runs it: "expotion", "audiocraft" or "diffusers".
        adapter_name: the adapter's name or path, or None.
        streams: names of the embedding streams that its adapter reads.
        stream_dims: the dimensions that it reads of each, where it names them.
        follows_tempo: its step grid is one of beats, so a cue needs a tempo.
        device, dtype: where it runs, and its number type.
        soundfont: name ("file") and "sha256" of the soundfont that plays its notes, or None.
        takes_melody: it plays a tune that it is given.
        melodist: name of the model that composes its melodies, or None.
    """

    name: str
    digest: str
    codec_digest: str
    licence: str
    backbone: str
    adapter_name: str | None
    streams: tuple[str, ...]
    stream_dims: dict[str, tuple[str, ...]]
    follows_tempo: bool
    device: str
    dtype: str
    soundfont: dict[str, str] | None = None
    takes_melody: bool = False
    melodist: str | None = None

    @property
    def has_tempo(self) -> bool:
        """Whether its music is on a grid of beats that is known beforehand: its own, or its melodist's."""
        return self.follows_tempo or self.melodist is not None

    @classmethod
    def of(cls, model: Any) -> ModelIdentity:
        """The identity of a loaded model (`music.model.Model`, or anything with its attributes)."""
        return cls(
            name=model.name,
            digest=model.digest,
            codec_digest=model.codec.digest,
            licence=model.licence,
            backbone=model.backbone,
            adapter_name=model.adapter_name,
            streams=tuple(model.streams),
            stream_dims=stream_dims(model),
            follows_tempo=bool(model.codec.follows_tempo),
            device=str(model.device),
            dtype=str(model.dtype).removeprefix("torch."),
            soundfont=getattr(model.codec, "soundfont", None),
            takes_melody=getattr(model, "takes_melody", False),
            melodist=melodist.name if (melodist := getattr(model, "melodist", None)) is not None else None,
        )


def stream_dims(model: Any) -> dict[str, tuple[str, ...]]:
    """The embedding streams that a loaded model's adapters read, each with the dimensions they name."""
    dims: dict[str, tuple[str, ...]] = {}
    for one in (getattr(model, "melodist", None), model):
        if (adapter := getattr(one, "adapter", None)) is not None:
            dims |= {spec.name: tuple(spec.dims) for spec in adapter.config.streams}
    return {name: dims.get(name, ()) for name in model.streams}


def recall(arguments: Mapping[str, Any]) -> ModelIdentity | None:
    """The identity that a model had when it was last loaded with these arguments, if nothing has changed since.

    Args:
        arguments: of `music.load.load_model` (or of the audiocraft backbone), by name.
    """
    place = _place(arguments)
    if place is None:
        return None
    try:
        values = storage.parse_json(storage.read_text(place))
        dims = {str(name): tuple(map(str, names)) for name, names in values["stream_dims"].items()}
        return ModelIdentity(**{**values, "streams": tuple(values["streams"]), "stream_dims": dims})
    except (OSError, ValueError, TypeError, KeyError, AttributeError):
        return None


def remember(arguments: Mapping[str, Any], identity: ModelIdentity) -> None:
    """Keep the identity of a model that was loaded with these arguments."""
    place = _place(arguments)
    if place is not None:
        with contextlib.suppress(OSError):  # a read-only cache still serves
            storage.write_hint(place, asdict(identity))


def _place(arguments: Mapping[str, Any]) -> Path | None:
    try:
        states = [[str(path), *state_of(path)] for path in _deciding_files(arguments)]
    except (OSError, ExpotionError, _TooMany):
        return None
    decided = {
        "arguments": {key: _plain(value) for key, value in sorted(arguments.items())},
        "fields": [field.name for field in fields(ModelIdentity)],
        "files": states,
        "program": [__version__, _program_state()],
        "libraries": {name: _version(name) for name in _LIBRARIES},
        "machine": [platform.node(), platform.machine(), platform.python_version(), _accelerators()],
    }
    return storage.cache_root() / "models" / f"{storage.digest_of(decided)}.json"


def _deciding_files(arguments: Mapping[str, Any]) -> list[Path]:
    from expotion_cli.weights.manifest import find_manifest, read_manifests

    name, roots = str(arguments["name"]), []
    if name in read_manifests() or not Path(name).exists():
        manifest = find_manifest(name, "music")
        roots += [file.path for file in manifest.files]
        roots += [manifest.folder] if manifest.folder is not None else []
    else:
        path = Path(name)
        roots.append(path.parent if path.is_file() else path)
    if arguments.get("melody") is not None:
        from expotion_cli.music.codecs.notes.soundfont import default_soundfont

        melodist = find_manifest(MELODIST, "music")
        roots += [*(file.path for file in melodist.files), default_soundfont()]
    adapters = arguments.get("adapter") or []
    for adapter in [adapters] if isinstance(adapters, str | Path) else adapters:
        if str(adapter) != "none":
            roots += [path for path in (Path(adapter), Path(f"{adapter}.json")) if path.exists()]
    if arguments.get("soundfont") is not None:
        roots.append(Path(arguments["soundfont"]))
    elif arguments.get("backbone") is None:
        from expotion_cli.music.codecs.notes.soundfont import default_soundfont

        roots.append(default_soundfont())
    return sorted({path for root in roots for path in _files_in(root)})


class _TooMany(Exception):
    """A folder holds more files than a model has."""


def _files_in(root: Path) -> Iterator[Path]:
    if not root.is_dir():
        yield root
        return
    for number, path in enumerate(root.rglob("*")):
        if number > MOST_FILES:
            raise _TooMany
        if path.is_file():
            yield path


def _program_state() -> list[list[Any]]:
    """This program's files: another version of them may take the same weights for another model."""
    root = Path(__file__).resolve().parents[1]
    return [[str(path.relative_to(root)), *state_of(path)[:2]] for path in sorted(root.rglob("*.py"))]


def _accelerators() -> list[Any]:
    """What decides, without asking torch, whether it will find a GPU."""
    found = sorted(str(path) for folder in ("/dev", "/dev/dri") for path in Path(folder).glob("nvidia*"))
    return [os.environ.get("CUDA_VISIBLE_DEVICES"), found]


def _version(name: str) -> str | None:
    try:
        return metadata.version(name)
    except metadata.PackageNotFoundError:
        return None


def _plain(value: Any) -> Any:
    if isinstance(value, Sequence) and not isinstance(value, str):
        return [_plain(inner) for inner in value]
    return value if value is None else str(value)
