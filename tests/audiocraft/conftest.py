"""A tiny MusicGen made by audiocraft itself and exported as audiocraft does it."""

from __future__ import annotations

import logging
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import torch

PROMPTS = ("slow sad piano", "epic strings, drums and a very long tail of other words")
WORDS = "slow sad piano warm strings epic drums calm and a very long tail of other words".split()

# Keys and nesting as in the exported files of the published models; only the sizes are small.
SETTINGS = """
device: cuda
dtype: float32
autocast: true
sample_rate: 32000
channels: 1
solver: musicgen
compression_model_checkpoint: //sig/5091833e
compression_model_n_q: 4
interleave_stereo_codebooks:
  use: {stereo}
  per_timestep: false
lm_model: transformer_lm
codebooks_pattern:
  modeling: delay
  delay:
    delays: {delays}
    flatten_first: 0
    empty_initial: 0
transformer_lm:
  dim: 32
  num_heads: 4
  num_layers: 3
  hidden_scale: 4
  n_q: {streams}
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
  memory_efficient: {efficient}
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
  text: {{}}
  wav: {{}}
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
  segment_duration: {window_s}
"""
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


@pytest.fixture(scope="session", autouse=True)
def audiocraft():
    """audiocraft; without it these tests are skipped, or fail where it has been promised."""
    logging.getLogger("xformers").setLevel(logging.ERROR)
    try:
        import audiocraft
        import audiocraft.models
    except ImportError as error:
        reason = f"audiocraft is not here ({error}); uv run --group audiocraft --extra test pytest tests/audiocraft"
        if os.environ.get("EXPOTION_REQUIRE_AUDIOCRAFT"):
            pytest.fail(reason)
        pytest.skip(reason)
    return audiocraft


@dataclass(frozen=True)
class Exported:
    """audiocraft's objects, and the folder they were exported to."""

    folder: Path
    lm: Any
    codec: Any


def write_text_encoder(folder: Path) -> None:
    """A tiny T5 with random weights and a unigram tokenizer, where audiocraft's files only name one."""
    from transformers import T5Config, T5EncoderModel, T5Tokenizer

    letters = "abcdefghijklmnopqrstuvwxyz,.-'0123456789"
    vocab = [("<pad>", 0.0), ("</s>", 0.0), ("<unk>", 0.0), ("▁", -2.0), *((letter, -3.0) for letter in letters)]
    vocab += [(f"▁{word}", -1.0) for word in WORDS]
    T5Tokenizer(vocab=vocab, extra_ids=0).save_pretrained(folder)
    sizes = {"d_model": 24, "d_kv": 8, "d_ff": 32, "num_layers": 2, "num_heads": 3, "dropout_rate": 0.0}
    enlarged(T5EncoderModel(T5Config(vocab_size=len(vocab), **sizes))).save_pretrained(folder)


def enlarged(module):
    """With weights large enough that every part matters."""
    with torch.no_grad():
        for parameter in module.parameters():
            if parameter.ndim == 2:
                parameter.normal_(std=2.0 * parameter.shape[1] ** -0.5)
    return module.eval()


def export(folder: Path, *, stereo: bool = False, window_s: float = 30, efficient: bool = True) -> Exported:
    """Make a model by audiocraft's builders and write it as `audiocraft.utils.export` does."""
    from audiocraft.models import builders
    from audiocraft.modules.conditioners import T5Conditioner
    from omegaconf import OmegaConf

    torch.manual_seed(0)
    folder.mkdir(parents=True)
    text = folder / "t5-base"
    write_text_encoder(text)
    streams, delays = (8, [0, 0, 1, 1, 2, 2, 3, 3]) if stereo else (4, [0, 1, 2, 3])
    settings = SETTINGS.format(
        stereo=str(stereo).lower(),
        efficient=str(efficient).lower(),
        delays=delays,
        streams=streams,
        window_s=window_s,
    )
    cfg = OmegaConf.create(settings)
    cfg.device = "cpu"
    cfg.conditioners.description.t5.name = str(text)
    T5Conditioner.MODELS.append(str(text))
    T5Conditioner.MODELS_DIMS[str(text)] = 24
    lm = enlarged(builders.get_lm_model(cfg))
    lm.cfg = cfg
    codec_cfg = OmegaConf.create(CODEC_SETTINGS)
    codec_cfg.device = "cpu"
    codec = builders.get_compression_model(codec_cfg).eval()
    for layer in codec.quantizer.vq.layers:
        layer._codebook.inited.fill_(1)
        layer._codebook.embed.normal_()
    for name, model, said in (("state_dict", lm, settings), ("compression_state_dict", codec, CODEC_SETTINGS)):
        package = {"best_state": model.state_dict(), "xp.cfg": said, "version": "1.3.0", "exported": True}
        torch.save(package, folder / f"{name}.bin")
    return Exported(folder, lm, codec)


@pytest.fixture(scope="session")
def mono(audiocraft, tmp_path_factory) -> Exported:
    return export(tmp_path_factory.mktemp("mono") / "musicgen")


@pytest.fixture(scope="session")
def plain(audiocraft, tmp_path_factory) -> Exported:
    """With torch's own attention inside, which changes the tensors' names."""
    return export(tmp_path_factory.mktemp("plain") / "musicgen", efficient=False)


@pytest.fixture(scope="session")
def stereo(audiocraft, tmp_path_factory) -> Exported:
    return export(tmp_path_factory.mktemp("stereo") / "musicgen", stereo=True)


@pytest.fixture(scope="session")
def short(audiocraft, tmp_path_factory) -> Exported:
    """Trained, so to speak, on windows of one second: two seconds are a long cue to it."""
    return export(tmp_path_factory.mktemp("short") / "musicgen", window_s=1)
