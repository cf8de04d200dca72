"""audiocraft's two torch files, written as its export writes them: the settings in YAML, the tensors' names, the rest.

The settings have the keys and the nesting of the published models; only the sizes are small. Models come from
audiocraft itself where it is installed, and otherwise from transformers, whose tensors get audiocraft's names here.
"""

from __future__ import annotations

import copy
import shutil
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import torch
import yaml
from torch import Tensor

from expotion_cli.music.checkpoints.huggingface import Checkpoint, load_checkpoint

LM_FILE, CODEC_FILE = "state_dict.bin", "compression_state_dict.bin"
LM_SETTINGS = """
device: cuda
dtype: float32
autocast: true
sample_rate: 32000
channels: 1
solver: musicgen
compression_model_checkpoint: //sig/5091833e
compression_model_n_q: 4
interleave_stereo_codebooks:
  use: false
  per_timestep: false
lm_model: transformer_lm
codebooks_pattern:
  modeling: delay
  delay:
    delays: [0, 1, 2, 3]
    flatten_first: 0
    empty_initial: 0
  unroll:
    flattening: [0, 1, 2, 3]
transformer_lm:
  dim: 32
  num_heads: 4
  num_layers: 3
  hidden_scale: 4
  n_q: 4
  card: 64
  dropout: 0.1
  emb_lr: null
  activation: gelu
  norm_first: true
  bias_ff: false
  bias_attn: false
  bias_proj: false
  past_context: null
  causal: true
  custom: false
  memory_efficient: true
  attention_as_float32: false
  layer_scale: null
  positional_embedding: sin
  xpos: false
  checkpointing: none
  weight_init: gaussian
  depthwise_init: current
  zero_bias_init: true
  norm: layer_norm
  cross_attention: true
  qk_layer_norm: false
  qk_layer_norm_cross: false
  attention_dropout: null
  kv_repeat: 1
  two_step_cfg: false
classifier_free_guidance:
  training_dropout: 0.3
  inference_coef: 3.0
attribute_dropout:
  args:
    active_on_eval: false
  text: {}
  wav: {}
fuser:
  cross_attention_pos_emb: false
  cross_attention_pos_emb_scale: 1
  sum: []
  prepend: []
  cross: [description]
  input_interpolate: []
conditioners:
  description:
    model: t5
    t5:
      name: t5-base
      finetune: false
      word_dropout: 0.3
      normalize_text: false
dataset:
  segment_duration: 30
"""
MELODY_CHANGES = {
    "transformer_lm.cross_attention": False,
    "attribute_dropout.wav": {"self_wav": 0.5},
    "fuser.cross": [],
    "fuser.prepend": ["self_wav", "description"],
    "conditioners.self_wav": {
        "model": "chroma_stem",
        "chroma_stem": {
            "sample_rate": "${sample_rate}",
            "n_chroma": 12,
            "radix2_exp": 14,
            "argmax": True,
            "match_len_on_eval": False,
            "eval_wavs": None,
            "n_eval_wavs": 100,
        },
    },
}
"""What the settings of the published melody models say otherwise."""
CODEC_SETTINGS = """
device: cuda
sample_rate: 32000
channels: 1
compression_model: encodec
encodec:
  autoencoder: seanet
  quantizer: rvq
  sample_rate: ${sample_rate}
  channels: ${channels}
  causal: false
  renormalize: false
seanet:
  dimension: 8
  channels: ${channels}
  causal: ${encodec.causal}
  n_filters: 4
  n_residual_layers: 1
  ratios: [8, 5, 4, 4]
  activation: ELU
  activation_params: {alpha: 1.0}
  norm: weight_norm
  norm_params: {}
  kernel_size: 7
  residual_kernel_size: 3
  last_kernel_size: 7
  dilation_base: 2
  pad_mode: constant
  true_skip: true
  compress: 2
  lstm: 2
  disable_norm_outer_blocks: 0
  decoder:
    trim_right_ratio: 1.0
    final_activation: null
    final_activation_params: null
  encoder: {}
rvq:
  n_q: 4
  q_dropout: false
  bins: 64
  decay: 0.99
  kmeans_init: true
  kmeans_iters: 50
  threshold_ema_dead_code: 2
  orthogonal_reg_weight: 0.0
  orthogonal_reg_active_codes_only: false
"""
_LAYER = {
    "self_attn.in_proj_weight": ("self_attn.q_proj", "self_attn.k_proj", "self_attn.v_proj"),
    "self_attn.out_proj.weight": ("self_attn.out_proj",),
    "cross_attention.in_proj_weight": ("encoder_attn.q_proj", "encoder_attn.k_proj", "encoder_attn.v_proj"),
    "cross_attention.out_proj.weight": ("encoder_attn.out_proj",),
    "linear1.weight": ("fc1",),
    "linear2.weight": ("fc2",),
}
_NORMS = {"norm1": "self_attn_layer_norm", "norm_cross": "encoder_attn_layer_norm", "norm2": "final_layer_norm"}


def lm_state(model: Any) -> dict[str, Tensor]:
    """`best_state` of the language model."""
    theirs = model.state_dict()
    config, state = model.config.decoder, {}
    for k in range(config.num_codebooks):
        state[f"emb.{k}.weight"] = theirs[f"decoder.model.decoder.embed_tokens.{k}.weight"]
        state[f"linears.{k}.weight"] = theirs[f"decoder.lm_heads.{k}.weight"]
    for i in range(config.num_hidden_layers):
        here, there = f"transformer.layers.{i}.", f"decoder.model.decoder.layers.{i}."
        for name, parts in _LAYER.items():
            if f"{there}{parts[0]}.weight" in theirs:
                state[here + name] = torch.cat([theirs[f"{there}{part}.weight"] for part in parts])
        for name, part in _NORMS.items():
            if f"{there}{part}.weight" in theirs:
                state |= {f"{here}{name}.{kind}": theirs[f"{there}{part}.{kind}"] for kind in ("weight", "bias")}
    melody = "condition_provider.conditioners.self_wav."
    if "audio_enc_to_dec_proj.weight" in theirs:
        state[f"{melody}chroma.spec.window"] = torch.hann_window(16_384)
    for kind in ("weight", "bias"):
        if f"audio_enc_to_dec_proj.{kind}" in theirs:
            state[f"{melody}output_proj.{kind}"] = theirs[f"audio_enc_to_dec_proj.{kind}"]
        state[f"out_norm.{kind}"] = theirs[f"decoder.model.decoder.layer_norm.{kind}"]
        state[f"condition_provider.conditioners.description.output_proj.{kind}"] = theirs[f"enc_to_dec_proj.{kind}"]
    return {name: tensor.clone() for name, tensor in state.items()}


def codec_state(encodec: Any) -> dict[str, Tensor]:
    """`best_state` of the compression model."""
    from torch import nn

    state = {}
    for name, tensor in encodec.state_dict().items():
        name = name.replace(".parametrizations.weight.original0", ".weight_g")
        name = name.replace(".parametrizations.weight.original1", ".weight_v")
        owner = encodec.get_submodule(name.split(".conv.")[0]) if ".conv." in name else None
        if owner is not None:
            wrapped = "convtr" if isinstance(owner.conv, nn.ConvTranspose1d) else "conv"
            name = name.replace(".conv.", f".{wrapped}.{wrapped}.")
        name = name.replace("quantizer.layers.", "quantizer.vq.layers.").replace(".codebook.", "._codebook.")
        for side in ("encoder", "decoder"):
            name = name.replace(f"{side}.layers.", f"{side}.model.")
        state[name] = tensor.clone()
    return state


def edited(settings: str, changes: Mapping[str, Any]) -> str:
    """Settings with other values; keys are dotted, and only the last part of one may be new."""
    values = yaml.safe_load(settings)
    for key, value in copy.deepcopy(dict(changes)).items():
        *owners, last = key.split(".")
        owner = values
        for name in owners:
            owner = owner[name]
        owner[last] = value
    return yaml.safe_dump(values, sort_keys=False)


def for_sides(sides: int) -> dict[str, Any]:
    """What the language model's settings say of mono (1) or stereo (2)."""
    return {
        "channels": sides,
        "interleave_stereo_codebooks.use": sides == 2,
        "codebooks_pattern.delay.delays": [k // sides for k in range(4 * sides)],
        "transformer_lm.n_q": 4 * sides,
    }


def lm_settings(model: Any, changes: Mapping[str, Any] | None = None) -> str:
    """`xp.cfg` of a transformers MusicGen's language model."""
    config = model.config.decoder
    assert config.num_codebooks == 4 * config.audio_channels
    sizes = {
        "sample_rate": model.config.audio_encoder.sampling_rate,
        "transformer_lm.dim": config.hidden_size,
        "transformer_lm.num_heads": config.num_attention_heads,
        "transformer_lm.num_layers": config.num_hidden_layers,
        "transformer_lm.hidden_scale": config.ffn_dim // config.hidden_size,
        "transformer_lm.card": config.vocab_size,
    }
    if model.config.model_type == "musicgen_melody":
        # The codec of these small models has another rate than the extractor of melodies.
        sizes |= {**MELODY_CHANGES, "conditioners.self_wav.chroma_stem.sample_rate": 32_000}
    return edited(LM_SETTINGS, for_sides(config.audio_channels) | sizes | dict(changes or {}))


def codec_settings(encodec: Any, changes: Mapping[str, Any] | None = None) -> str:
    """`xp.cfg` of a transformers EnCodec."""
    config = encodec.config
    sizes = {
        "sample_rate": config.sampling_rate,
        "seanet.dimension": config.hidden_size,
        "seanet.n_filters": config.num_filters,
        "seanet.ratios": list(config.upsampling_ratios),
        "seanet.kernel_size": config.kernel_size,
        "seanet.residual_kernel_size": config.residual_kernel_size,
        "seanet.last_kernel_size": config.last_kernel_size,
        "seanet.pad_mode": config.pad_mode,
        "seanet.true_skip": not config.use_conv_shortcut,
        "seanet.lstm": config.num_lstm_layers,
        "rvq.n_q": len(encodec.quantizer.layers),
        "rvq.bins": config.codebook_size,
    }
    return edited(CODEC_SETTINGS, sizes | dict(changes or {}))


def save_package(path: Path, state: dict[str, Tensor], settings: str) -> None:
    """One file as `audiocraft.utils.export` writes it."""
    torch.save({"best_state": state, "xp.cfg": settings, "version": "1.3.0", "exported": True}, path)


def change_package(path: Path, edit: Callable[[dict[str, Any]], Any]) -> None:
    """Save a file again after an edit."""
    package = torch.load(path, weights_only=True)
    edit(package)
    torch.save(package, path)


def save_t5(encoder: Any, folder: Path) -> None:
    """The text encoder as a whole T5 is published: with a decoder, which MusicGen does not use."""
    from safetensors.torch import load_file, save_file

    encoder.save_pretrained(folder)
    tensors = load_file(folder / "model.safetensors")
    tensors["decoder.block.0.layer.0.SelfAttention.q.weight"] = torch.zeros(3, 3)
    save_file(tensors, folder / "model.safetensors", {"format": "pt"})


def save_audiocraft(model: Any, tokenizer: Path, folder: Path) -> Path:
    """The folder a user has, from a transformers MusicGen: two files of audiocraft's, and T5 beside them."""
    folder.mkdir(parents=True, exist_ok=True)
    save_package(folder / LM_FILE, lm_state(model), lm_settings(model))
    save_package(folder / CODEC_FILE, codec_state(model.audio_encoder), codec_settings(model.audio_encoder))
    save_t5(model.text_encoder, folder / "t5-base")
    shutil.copy(tokenizer, folder / "t5-base" / "tokenizer.json")
    return folder


def load(path: Path) -> Checkpoint:
    """What this project makes of a folder, or of the language model's file in it."""
    return load_checkpoint(path, device=torch.device("cpu"), dtype=torch.float32)


class Runs:
    """Unpickled by an ordinary reader, it calls a function."""

    def __init__(self, function: Callable, *arguments: Any):
        self.called = (function, arguments)

    def __reduce__(self):
        return self.called
