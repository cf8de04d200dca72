"""Merges PEFT's LoRA adapters into a decoder's weights, once, when a model is loaded.

A folder holds `adapter_config.json` (`"peft_type": "LORA"`) and `adapter_model.safetensors`. It may have been trained
on transformers' `MusicgenForConditionalGeneration`, on its decoder alone, or on this project's `MusicDecoder`: the
names differ by a prefix. Any of the decoder's linear layers may be adapted.

PEFT itself computes and adds the differences. Tensors and settings are checked first, because PEFT skips tensors that
it does not expect; and only plain numbers of the config reach it, because some settings name modules that it would
import.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from torch import Tensor, nn

from expotion_cli import storage
from expotion_cli.errors import WeightsError
from expotion_cli.music.checkpoints.adapter_files import ADAPTER_CONFIG_FILE, ADAPTER_WEIGHTS_FILE
from expotion_cli.music.checkpoints.state_dict import FETCH_AGAIN, read_json, read_tensors
from expotion_cli.music.transformer.decoder import MusicDecoder

LORA_TYPE = "LORA"
_KEY = re.compile(r"(?:base_model\.model\.)?(?P<module>.+)\.lora_(?P<side>[AB])\.weight")
_PREFIXES = ("decoder.model.decoder.", "model.decoder.", "decoder.", "")
# Settings that don't affect the result, or whose effect is checked separately.
_NO_MATTER = {
    "peft_type", "peft_version", "auto_mapping", "base_model_name_or_path", "revision", "task_type", "inference_mode",
    "r", "lora_alpha", "rank_pattern", "alpha_pattern", "use_rslora", "init_lora_weights", "lora_dropout",
    "target_modules", "exclude_modules", "layers_to_transform", "layers_pattern", "ensure_weight_tying",
    "megatron_core", "qalora_group_size", "runtime_config", "eva_config", "corda_config", "loftq_config",
    "lora_ga_config",
}  # fmt: skip
_PLAIN_STARTS = (True, False, None, "gaussian", "orthogonal", "eva")
"""Initialisations that leave the base weights alone; others subtract the adapter's initial value from them."""


def merge_lora(folder: str | Path, decoder: MusicDecoder) -> str:
    """Add a LoRA adapter to the decoder's weights.

    Args:
        folder: the adapter's.
        decoder: not packed yet; it changes only if the whole adapter fits.

    Returns:
        The adapter's digest, sha256 over its files.

    Raises:
        WeightsError: a file is missing or damaged; a tensor is missing, unknown, of the wrong shape or not finite; or
            a setting asks for more than plain LoRA.
    """
    folder = Path(folder)
    path, weights = folder / ADAPTER_CONFIG_FILE, folder / ADAPTER_WEIGHTS_FILE
    values = read_json(path)
    _check_settings(values, path)
    sides = _sides(read_tensors([weights]), decoder, weights)
    ranks, alphas = _ranks_and_alphas(values, sides, path)
    _check_shapes(sides, ranks, decoder, weights)
    _merge(decoder, sides, ranks, alphas, use_rslora=bool(values.get("use_rslora")))
    return storage.digest_of([storage.digest_file(file) for file in (path, weights)])


# Our module → its name where it was trained, and {"A": tensor, "B": tensor}.
_Sides = Mapping[str, tuple[str, Mapping[str, Tensor]]]


def _check_settings(values: Mapping[str, Any], path: Path) -> None:
    if values.get("peft_type") != LORA_TYPE:
        raise WeightsError(f"This adapter is of type {values.get('peft_type')!r}, not {LORA_TYPE}.", path=path)
    asked = [key for key, value in values.items() if key not in _NO_MATTER and value and value != "none"]
    if values.get("init_lora_weights") not in _PLAIN_STARTS:
        asked.append("init_lora_weights")
    if asked:
        raise WeightsError(
            f"The setting {asked[0]} is {values[asked[0]]!r}, which plain LoRA does not have.",
            path=path,
            remedy="Merge it with PEFT (merge_and_unload) into a model folder, and use that with --model.",
        )


def _sides(tensors: Mapping[str, Tensor], decoder: MusicDecoder, path: Path) -> _Sides:
    linear = {name for name, module in decoder.named_modules() if isinstance(module, nn.Linear)}
    found: dict[str, tuple[str, dict[str, Tensor]]] = {}
    for key, tensor in tensors.items():
        match = _KEY.fullmatch(key)
        trained = match["module"] if match else ""
        name = next((trained.removeprefix(p) for p in _PREFIXES if trained.removeprefix(p) in linear), None)
        if match is None or name is None:
            raise WeightsError(
                f"The tensor {key!r} adapts nothing that this decoder has.",
                path=path,
                remedy="Choose a LoRA that was trained on this model's decoder, on q_proj, k_proj, v_proj, out_proj, "
                "fc1 or fc2.",
            )
        if not bool(tensor.isfinite().all()):
            raise WeightsError(f"The tensor {key!r} holds NaN or infinity.", path=path, remedy=FETCH_AGAIN)
        found.setdefault(name, (trained, {}))[1][match["side"]] = tensor
    for trained, pair in found.values():
        if absent := {"A", "B"} - pair.keys():
            raise WeightsError(f"The tensor '{trained}.lora_{min(absent)}.weight' is missing.", path=path)
    if not found:
        raise WeightsError("The adapter holds no tensors.", path=path)
    return found


def _ranks_and_alphas(values: Mapping[str, Any], sides: _Sides, path: Path) -> tuple[dict[str, int], dict[str, float]]:
    """Of each module, from the config; patterns there speak of names as they were in training."""
    from peft.utils.other import get_pattern_key

    ranks, alphas = {}, {}
    try:
        rank_pattern, alpha_pattern = values.get("rank_pattern") or {}, values.get("alpha_pattern") or {}
        for name, (trained, _) in sides.items():
            ranks[name] = int(rank_pattern.get(get_pattern_key(rank_pattern.keys(), trained), values["r"]))
            alphas[name] = float(
                alpha_pattern.get(get_pattern_key(alpha_pattern.keys(), trained), values["lora_alpha"])
            )
    except (KeyError, TypeError, ValueError, AttributeError, re.error) as error:
        raise WeightsError(f"The adapter's r, lora_alpha or patterns can't be read ({error!r}).", path=path) from error
    return ranks, alphas


def _check_shapes(sides: _Sides, ranks: Mapping[str, int], decoder: MusicDecoder, path: Path) -> None:
    for name, (trained, pair) in sides.items():
        layer = decoder.get_submodule(name)
        expected = {"A": [ranks[name], layer.in_features], "B": [layer.out_features, ranks[name]]}
        for side, shape in expected.items():
            if list(pair[side].shape) != shape:
                raise WeightsError(
                    f"The tensor '{trained}.lora_{side}.weight' has shape {list(pair[side].shape)}, expected {shape} "
                    f"(rank {ranks[name]} on {layer.in_features} → {layer.out_features}).",
                    path=path,
                    remedy="Choose the adapter that was trained on this model.",
                )


def _merge(
    decoder: MusicDecoder, sides: _Sides, ranks: dict[str, int], alphas: dict[str, float], *, use_rslora: bool
) -> None:
    from peft import LoraConfig, get_peft_model, set_peft_model_state_dict

    config = LoraConfig(
        r=next(iter(ranks.values())),
        target_modules=list(sides),
        rank_pattern={re.escape(name): rank for name, rank in ranks.items()},
        alpha_pattern={re.escape(name): alpha for name, alpha in alphas.items()},
        use_rslora=use_rslora,
        inference_mode=True,
    )
    state = {
        f"base_model.model.{name}.lora_{side}.weight": tensor
        for name, (_, pair) in sides.items()
        for side, tensor in pair.items()
    }
    adapted = get_peft_model(decoder, config)
    result = set_peft_model_state_dict(adapted, state)
    assert not result.unexpected_keys and not [key for key in result.missing_keys if ".lora_" in key]
    adapted.merge_and_unload()
    decoder.eval().requires_grad_(False)
