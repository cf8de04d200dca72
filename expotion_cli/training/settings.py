"""Training recipes: how an adapter is trained, in one frozen value, checked as the recipes of scoring are.

Built in layers: the defaults below, then a TOML file (`recipes/train/`), then single keys given by hand.
"""

from __future__ import annotations

import dataclasses
import tomllib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from expotion_cli import declare
from expotion_cli.assets import shipped_folder
from expotion_cli.declare import nearest_hint
from expotion_cli.errors import RecipeError, UnknownNameError
from expotion_cli.storage import digest_of, read_toml

RANDOM, START = "random", "start"
ADAMW, MUON = "adamw", "muon"
LINEAR, COSINE = "linear", "cosine"
PRECISIONS = ("auto", "fp32", "bf16")
LORA_TARGETS = ("q_proj", "k_proj", "v_proj", "out_proj", "fc1", "fc2")
DEFAULT = "adapter"
_NOT_HERE = ("mini",)


def _flag(default: bool, doc: str) -> Any:
    def check(value: Any) -> bool:
        if not isinstance(value, bool):
            raise ValueError("must be true or false")
        return value

    return dataclasses.field(default=default, metadata={"check": check, "doc": doc})


def _targets(default: tuple[str, ...], doc: str) -> Any:
    def check(value: Any) -> tuple[str, ...]:
        if not isinstance(value, (list, tuple)) or not value:
            raise ValueError(f"must be a list of names among {', '.join(LORA_TARGETS)}")
        for name in value:
            if name not in LORA_TARGETS:
                raise ValueError(f"may hold {', '.join(LORA_TARGETS)}{nearest_hint(name, LORA_TARGETS)}")
        return tuple(dict.fromkeys(value))

    return dataclasses.field(default=default, metadata={"check": check, "doc": doc})


@dataclass(frozen=True)
class AdapterPart:
    """The joint-embedding adapter."""

    streams: tuple[str, ...] = declare.names(
        (), 'what it reads, as "pose" or "raft:256"; empty for all that the data hold'
    )
    rank: int = declare.whole(48, 0, 4096, "width r of its projection; 0 trains no joint-embedding adapter")
    layers: int = declare.whole(0, 0, 1000, "how many of the last layers it adapts; 0 for all")
    window_steps: int = declare.whole(500, 16, 4096, "steps of a crop, and of the window it then composes at once")
    gate_start: float = declare.number(0.0, -1.0, 1.0, "where the gates begin without a warm-up")
    warm_up_steps: int = declare.whole(0, 0, 100_000, "steps in which it first learns to follow the moment; 0 for none")


@dataclass(frozen=True)
class LoraPart:
    """Low-rank changes of the decoder's own layers, in PEFT's form."""

    rank: int = declare.whole(0, 0, 1024, "rank; 0 trains no LoRA")
    alpha: float = declare.number(16.0, 0.0, 4096.0, "its scale is alpha / rank")
    dropout: float = declare.number(0.0, 0.0, 0.9, "dropout before it")
    targets: tuple[str, ...] = _targets(("q_proj", "v_proj"), "which layers it changes")


@dataclass(frozen=True)
class DataPart:
    """What a batch is made of."""

    crops: str = declare.choice(RANDOM, (RANDOM, START), "crops begin anywhere, or always at the clip's start")
    synthetic: float = declare.number(0.0, 0.0, 1.0, "share of crops whose motion is made up from their music")
    drop_text: float = declare.number(0.1, 0.0, 1.0, "how often the words are left out")
    drop_all: float = declare.number(0.1, 0.0, 1.0, "how often all that is seen is left out")
    drop_each: float = declare.number(0.1, 0.0, 1.0, "how often each stream alone is left out")
    held_out_crops: int = declare.whole(32, 1, 4096, "crops that held-out losses are taken on")


@dataclass(frozen=True)
class TrainPart:
    """How long and how fast."""

    epochs: float = declare.number(20.0, 0.0, 1e6, "how often each clip is used")
    steps: int = declare.whole(0, 0, 10_000_000, "optimiser steps instead of epochs; 0 counts epochs")
    batch: int = declare.whole(16, 1, 65_536, "crops of one optimiser step, over all devices")
    micro_batch: int = declare.whole(4, 1, 4096, "crops that a device holds at once")
    precision: str = declare.choice("auto", PRECISIONS, "auto: bf16 on CUDA, fp32 on a CPU")
    checkpointing: bool = _flag(False, "compute activations again instead of keeping them: less memory, more time")
    optimizer: str = declare.choice(ADAMW, (ADAMW, MUON), "muon: Muon for matrices, AdamW for the rest")
    learning_rate: float = declare.number(1e-3, 0.0, 10.0, "peak learning rate")
    gate_learning_rate: float = declare.number(0.0, 0.0, 10.0, "that of the gates; 0 for the same")
    lora_learning_rate: float = declare.number(0.0, 0.0, 10.0, "that of the LoRA; 0 for the same")
    weight_decay: float = declare.number(0.0, 0.0, 10.0, "weight decay")
    schedule: str = declare.choice(
        COSINE, (LINEAR, COSINE), "cosine falls throughout, linear stays and falls at the end"
    )
    warmup_epochs: float = declare.number(0.0, 0.0, 1e6, "linear rise of the learning rate, in epochs")
    warmup_steps: int = declare.whole(0, 0, 1_000_000, "the same in steps; the longer one counts")
    last_rate: float = declare.number(0.05, 0.0, 1.0, "where the learning rate ends, as a share of its peak")
    clip_norm: float = declare.number(1.0, 1e-6, 1e6, "gradients are clipped to this norm")
    eval_every: int = declare.whole(100, 1, 1_000_000, "steps between held-out losses")
    save_every: int = declare.whole(50, 1, 1_000_000, "steps between checkpoints")
    patience: int = declare.whole(0, 0, 10_000, "stop after this many held-out losses without a better one; 0: never")
    seed: int = declare.whole(0, 0, 2**31 - 1, "key of all randomness")


@dataclass(frozen=True)
class TrainRecipe:
    """How an adapter is trained.

    Attributes:
        name, title, description: for people; they don't shape the result.
        adapter, lora, data, train: the tables.
        path: the file it came from.
    """

    name: str
    title: str = declare.text("", "one line for lists")
    description: str = declare.text("", "what it is for")
    adapter: AdapterPart = AdapterPart()
    lora: LoraPart = LoraPart()
    data: DataPart = DataPart()
    train: TrainPart = TrainPart()
    path: Path | None = None

    def fields(self) -> dict[str, Any]:
        """All that shapes the result, as plain values."""
        return {name: dataclasses.asdict(getattr(self, name)) for name in _TABLES}

    @property
    def digest(self) -> str:
        """sha256 (hex) over `fields`."""
        return digest_of(self.fields())

    def override(self, values: Mapping[str, Any], *, source: str = "--set") -> TrainRecipe:
        """A copy with some keys replaced, e.g. `{"train.steps": 50}`.

        Raises:
            RecipeError: an unknown key, or a value out of range.
        """
        tables: dict[str, Any] = {}
        for dotted, value in values.items():
            table, _, key = dotted.rpartition(".")
            target = tables.setdefault(table, {}) if table else tables
            target[key] = value
        return _apply(self, tables, source, None)


_TABLES: dict[str, type] = {"adapter": AdapterPart, "lora": LoraPart, "data": DataPart, "train": TrainPart}
_TEXTS = ("title", "description")


def load_train_recipe(name_or_path: str | Path = DEFAULT, settings: Sequence[str] = ()) -> TrainRecipe:
    """Read a shipped training recipe by name, or one's own by path, and lay single settings over it.

    Args:
        name_or_path: `adapter`, or a path that ends in `.toml`.
        settings: `KEY=VALUE`, e.g. `train.steps=50`; values are written as in TOML.

    Raises:
        UnknownNameError: no shipped training recipe of that name.
        RecipeError: the file can't be read, has an unknown key or a value out of range.
    """
    path = _find(str(name_or_path))
    tables = read_toml(path, "the recipe", error=RecipeError)
    tables.pop("name", None)
    made = _apply(TrainRecipe(name=path.stem, path=path), tables, "recipe", path)
    made = made.override(dict(_read_setting(text) for text in settings))
    if not made.adapter.rank and not made.lora.rank:
        raise RecipeError(
            "with adapter.rank and lora.rank 0 nothing is trained.", path=path, remedy="Set at least one of them."
        )
    return made


def train_recipe_names() -> list[str]:
    """Names of the shipped training recipes for adapters, the default first."""
    names = sorted(path.stem for path in (shipped_folder("recipes") / "train").glob("*.toml"))
    return sorted((name for name in names if name not in _NOT_HERE), key=lambda name: name != DEFAULT)


def _find(text: str) -> Path:
    if text.endswith(".toml") or "/" in text or "\\" in text:
        path = Path(text).expanduser()
        if not path.is_file():
            raise RecipeError("there is no such recipe file.", path=path, remedy="Check the path after --recipe.")
        return path
    names = train_recipe_names()
    if text not in names:
        raise UnknownNameError(
            f"No training recipe is called {text!r}{nearest_hint(text, names)}.",
            remedy=f"Shipped ones: {', '.join(names)}; one of your own is given by its path, ending in .toml.",
        )
    return shipped_folder("recipes") / "train" / f"{text}.toml"


def _read_setting(text: str) -> tuple[str, Any]:
    key, equals, value = text.partition("=")
    if not equals:
        raise RecipeError(f"--set {text!r} is no setting.", remedy="Write KEY=VALUE, e.g. train.steps=50.")
    try:
        return key.strip(), tomllib.loads(f"value = {value}")["value"]
    except tomllib.TOMLDecodeError:
        return key.strip(), value.strip()  # a word without quotes


def _apply(made: TrainRecipe, tables: Mapping[str, Any], where: str, path: Path | None) -> TrainRecipe:
    changes: dict[str, Any] = {}
    for key, value in tables.items():
        if key in _TEXTS:
            changes[key] = declare.checked(TrainRecipe, key, value, shown=key, where=where, path=path)
        elif key in _TABLES:
            changes[key] = declare.with_table(getattr(made, key), key, value, where=where, path=path)
        else:
            raise declare.unknown_key(key, (*_TEXTS, *_TABLES), where=where, path=path)
    return dataclasses.replace(made, **changes)
