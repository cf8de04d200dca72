"""Writes a transformers MusicGen as audiocraft would have: names, fused matrices, settings in YAML, two torch files."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

LM_SETTINGS = """
device: cuda
sample_rate: 800
channels: {sides}
lm_model: transformer_lm
compression_model_n_q: 4
interleave_stereo_codebooks:
  use: {stereo}
  per_timestep: false
codebooks_pattern:
  modeling: delay
  delay:
    delays: {delays}
    flatten_first: 0
    empty_initial: 0
  unroll:
    flattening: [0, 1, 2, 3]
transformer_lm:
  dim: {dim}
  num_heads: 4
  num_layers: 3
  hidden_scale: 2
  n_q: {codebooks}
  card: 64
  dropout: 0.0
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
  norm: layer_norm
  cross_attention: false
  qk_layer_norm: false
  qk_layer_norm_cross: false
  attention_dropout: null
  kv_repeat: 1
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
"""
CODEC_SETTINGS = """
sample_rate: 800
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
  ratios: [4, 4]
  activation: ELU
  activation_params: {alpha: 1.0}
  norm: weight_norm
  norm_params: {}
  kernel_size: 3
  residual_kernel_size: 3
  last_kernel_size: 3
  dilation_base: 2
  pad_mode: reflect
  true_skip: false
  compress: 2
  lstm: 1
  disable_norm_outer_blocks: 0
  decoder:
    trim_right_ratio: 1.0
    final_activation: null
    final_activation_params: null
  encoder: {}
rvq:
  n_q: 6
  q_dropout: false
  bins: 64
  decay: 0.99
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
            state[here + name] = torch.cat([theirs[f"{there}{part}.weight"] for part in parts])
        for name, part in _NORMS.items():
            state |= {f"{here}{name}.{kind}": theirs[f"{there}{part}.{kind}"] for kind in ("weight", "bias")}
    for kind in ("weight", "bias"):
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


def lm_settings(model: Any, extra: str = "") -> str:
    """`xp.cfg` of the language model."""
    config = model.config.decoder
    sides = config.audio_channels
    return extra + LM_SETTINGS.format(
        sides=sides,
        stereo=str(sides == 2).lower(),
        delays=[k // sides for k in range(config.num_codebooks)],
        codebooks=config.num_codebooks,
        dim=config.hidden_size,
    )


def save_t5(model: Any, tokenizer: Path, folder: Path) -> Path:
    """The text encoder as a whole T5 is published: with a decoder, which MusicGen does not use."""
    from safetensors.torch import load_file, save_file

    model.text_encoder.save_pretrained(folder)
    tensors = load_file(folder / "model.safetensors")
    tensors["decoder.block.0.layer.0.SelfAttention.q.weight"] = torch.zeros(3, 3)
    save_file(tensors, folder / "model.safetensors", {"format": "pt"})
    shutil.copy(tokenizer, folder / "tokenizer.json")
    return folder


def save_audiocraft(model: Any, tokenizer: Path, folder: Path, settings: Any = None) -> Path:
    """The folder a user has: two files of audiocraft's, and T5 beside them."""
    folder.mkdir(parents=True, exist_ok=True)
    facts = {"version": "1.0.0", "exported": True}
    lm = {"best_state": lm_state(model), "xp.cfg": settings or lm_settings(model), **facts}
    torch.save(lm, folder / "state_dict.bin")
    codec = {"best_state": codec_state(model.audio_encoder), "xp.cfg": CODEC_SETTINGS, **facts}
    torch.save(codec, folder / "compression_state_dict.bin")
    save_t5(model, tokenizer, folder / "t5-base")
    return folder
