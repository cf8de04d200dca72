"""Training recipes: all settings of adapter training in one frozen value, declared and checked like scoring recipes.

A recipe is built in layers: the defaults below, then a TOML file (`recipes/train/`), then single keys (`--set`).
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from expotion_cli import declare
from expotion_cli.assets import shipped_folder
from expotion_cli.declare import nearest_hint
from expotion_cli.errors import RecipeError, UnknownNameError
from expotion_cli.storage import digest_of, expanded, parse_toml, read_toml

RANDOM, START = "random", "start"
ADAMW, MUON = "adamw", "muon"
LINEAR, COSINE = "linear", "cosine"
PRECISIONS = ("auto", "fp32", "bf16")
LORA_TARGETS = ("q_proj", "k_proj", "v_proj", "out_proj", "fc1", "fc2")
DEFAULT = "adapter"
_NOT_FOR_ADAPTERS = ("mini", "mini-gpu", "mini-large")


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
class AdapterSettings:
    """The [adapter] table: the joint-embedding adapter (EXPOTION section 3)."""

    streams: tuple[str, ...] = declare.names((), 'streams it reads, as "pose" or "raft:256"; empty for all in the data')
    rank: int = declare.whole(48, 0, 4096, "rank r of its projections; 0 trains no joint-embedding adapter")
    layers: int = declare.whole(0, 0, 1000, "number of adapted layers, counted from the last; 0 for all")
    window_steps: int = declare.whole(500, 16, 4096, "steps of a crop, and of a window at inference")
    gate_start: float = declare.number(0.0, -1.0, 1.0, "initial value of the gates without a warm-up")
    warm_up_steps: int = declare.whole(0, 0, 100_000, "steps in which it first learns to follow the moment; 0 for none")


@dataclass(frozen=True)
class LoraSettings:
    """The [lora] table: low-rank changes of the decoder's own layers (Hu et al. 2022), as PEFT makes them."""

    rank: int = declare.whole(0, 0, 1024, "rank; 0 trains no LoRA")
    alpha: float = declare.number(16.0, 0.0, 4096.0, "scale of the LoRA is alpha / rank")
    dropout: float = declare.number(0.0, 0.0, 0.9, "dropout on the LoRA's input")
    targets: tuple[str, ...] = _targets(("q_proj", "v_proj"), "layers that it changes")


@dataclass(frozen=True)
class DataSettings:
    """The [data] table: what a batch is made of."""

    crops: str = declare.choice(RANDOM, (RANDOM, START), "random: crops start anywhere; start: at the clip's start")
    synthetic: float = declare.number(0.0, 0.0, 1.0, "share of crops with synthetic motion, made from their music")
    drop_text: float = declare.number(0.1, 0.0, 1.0, "probability of dropping the caption")
    drop_all: float = declare.number(0.1, 0.0, 1.0, "probability of dropping the whole picture")
    drop_each: float = declare.number(0.1, 0.0, 1.0, "probability of dropping each single stream")
    held_out_crops: int = declare.whole(32, 1, 4096, "crops in an evaluation")


@dataclass(frozen=True)
class TrainSettings:
    """The [train] table: length, batches, optimisers and schedule."""

    epochs: float = declare.number(20.0, 0.0, 1e6, "passes over the training music")
    steps: int = declare.whole(0, 0, 10_000_000, "optimiser steps; 0 derives them from the epochs")
    batch: int = declare.whole(16, 1, 65_536, "crops of an optimiser step, over all devices")
    micro_batch: int = declare.whole(4, 1, 4096, "crops that a device processes at once")
    precision: str = declare.choice("auto", PRECISIONS, "auto: bf16 on CUDA, fp32 on a CPU")
    checkpointing: bool = _flag(False, "recompute activations in the backward pass; saves memory, takes time")
    optimizer: str = declare.choice(ADAMW, (ADAMW, MUON), "muon: Muon for matrices, AdamW for the rest")
    learning_rate: float = declare.number(1e-3, 0.0, 10.0, "peak learning rate")
    gate_learning_rate: float = declare.number(0.0, 0.0, 10.0, "learning rate of the gates; 0 for the same")
    lora_learning_rate: float = declare.number(0.0, 0.0, 10.0, "learning rate of the LoRA; 0 for the same")
    weight_decay: float = declare.number(0.0, 0.0, 10.0, "weight decay of all optimisers")
    schedule: str = declare.choice(
        COSINE, (LINEAR, COSINE), "cosine: falling throughout; linear: constant, then falling over the last half"
    )
    warmup_epochs: float = declare.number(0.0, 0.0, 1e6, "linear warm-up of the learning rate, in epochs")
    warmup_steps: int = declare.whole(0, 0, 1_000_000, "the same in steps; the longer of the two applies")
    last_rate: float = declare.number(0.05, 0.0, 1.0, "last learning rate, as a share of the peak")
    clip_norm: float = declare.number(1.0, 1e-6, 1e6, "largest gradient norm; larger gradients are scaled down")
    eval_every: int = declare.whole(100, 1, 1_000_000, "steps between evaluations")
    save_every: int = declare.whole(50, 1, 1_000_000, "steps between checkpoints")
    patience: int = declare.whole(
        0, 0, 10_000, "stop after this many evaluations without a lower loss; 0 never stops early"
    )
    seed: int = declare.whole(0, 0, 2**31 - 1, "seed of all randomness")


@dataclass(frozen=True)
class TrainRecipe:
    """How an adapter is trained.

    Attributes:
        name, title, description: for people; they do not affect the result.
        adapter, lora, data, train: the tables.
        path: the file it was read from.
    """

    name: str
    title: str = declare.text("", "a short title")
    description: str = declare.text("", "one sentence on what it is for")
    adapter: AdapterSettings = AdapterSettings()
    lora: LoraSettings = LoraSettings()
    data: DataSettings = DataSettings()
    train: TrainSettings = TrainSettings()
    path: Path | None = None

    def fields(self) -> dict[str, Any]:
        """All that affects the result, as plain values."""
        return {name: dataclasses.asdict(getattr(self, name)) for name in _TABLES}

    @property
    def digest(self) -> str:
        """sha256 (hex) over `fields`."""
        return digest_of(self.fields())

    def override(self, values: Mapping[str, Any], *, source: str = "--set") -> TrainRecipe:
        """A copy with some keys replaced.

        Args:
            values: by dotted key, e.g. `{"train.steps": 50}`.
            source: what to call their origin in messages.

        Raises:
            RecipeError: an unknown key, or a value out of range.
        """
        tables: dict[str, Any] = {}
        for dotted, value in values.items():
            table, _, key = dotted.rpartition(".")
            target = tables.setdefault(table, {}) if table else tables
            target[key] = value
        return _apply(self, tables, source, None)


_TABLES: dict[str, type] = {
    "adapter": AdapterSettings,
    "lora": LoraSettings,
    "data": DataSettings,
    "train": TrainSettings,
}
_TEXTS = ("title", "description")


def load_train_recipe(name_or_path: str | Path = DEFAULT, settings: Sequence[str] = ()) -> TrainRecipe:
    """Read a training recipe and override single keys.

    Args:
        name_or_path: name of a shipped recipe, or a path that ends in `.toml`.
        settings: `KEY=VALUE`, e.g. `train.steps=50`, with values as in TOML; quotes around words may be omitted.

    Raises:
        UnknownNameError: no shipped training recipe of that name.
        RecipeError: the file can't be read, has an unknown key or a value out of range, or trains nothing.
    """
    path = _find(str(name_or_path))
    tables = read_toml(path, "the recipe", error=RecipeError)
    tables.pop("name", None)
    made = _apply(TrainRecipe(name=path.stem, path=path), tables, "recipe", path)
    made = made.override(dict(_read_setting(text) for text in settings))
    if not made.adapter.rank and not made.lora.rank:
        raise RecipeError(
            "nothing is trained: adapter.rank and lora.rank are both 0.", path=path, remedy="Set at least one of them."
        )
    return made


def train_recipe_names() -> list[str]:
    """Names of the shipped recipes for adapters, the default first."""
    names = sorted(path.stem for path in (shipped_folder("recipes") / "train").glob("*.toml"))
    return sorted((name for name in names if name not in _NOT_FOR_ADAPTERS), key=lambda name: name != DEFAULT)


def _find(text: str) -> Path:
    if text.endswith(".toml") or "/" in text or "\\" in text:
        path = expanded(text)
        if not path.is_file():
            raise RecipeError("there is no such recipe file.", path=path, remedy="Check the path after --recipe.")
        return path
    names = train_recipe_names()
    if text not in names:
        raise UnknownNameError(
            f"No training recipe is called {text!r}{nearest_hint(text, names)}.",
            remedy=f"Shipped recipes: {', '.join(names)}; give your own by its path, ending in .toml.",
        )
    return shipped_folder("recipes") / "train" / f"{text}.toml"


def _read_setting(text: str) -> tuple[str, Any]:
    key, equals, value = text.partition("=")
    if not equals:
        raise RecipeError(f"--set {text!r} can't be read.", remedy="Write KEY=VALUE, e.g. train.steps=50.")
    try:
        return key.strip(), parse_toml(f"value = {value}")["value"]
    except ValueError:
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
