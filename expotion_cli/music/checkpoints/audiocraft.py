"""Reads audiocraft's release files, without audiocraft: MusicGen and MusicGen Melody, from Meta or an own training.

A folder holds `state_dict.bin` (the language model) and `compression_state_dict.bin` (EnCodec). Both are torch files
with the tensors under `best_state` and the training's settings under `xp.cfg`, in YAML or as omegaconf's objects.
Models that these files only name have to be beside them in the transformers format, in a folder called like the last
part of the name: the text encoder (`t5-base/`, with its tokenizer), and the codec if the second file is only a pointer
(`encodec_32khz/`).

audiocraft computes the same function as transformers' MusicGen under other names: queries, keys and values are rows of
one matrix, and EnCodec's layers are wrapped twice. Its settings allow for more than these models (biases, rotary
positions, styles ...); a checkpoint that uses any of it is refused with the setting's name.

Source: audiocraft 1.3's `models/builders.py`, `models/lm.py`, `modules/transformer.py`, `modules/conditioners.py`,
`modules/seanet.py`.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from torch import Tensor

from expotion_cli.audio import pitch_classes
from expotion_cli.errors import WeightsError
from expotion_cli.music.checkpoints.audiocraft_settings import AudiocraftSettings
from expotion_cli.music.checkpoints.safe_torch import read_torch_file
from expotion_cli.music.checkpoints.state_dict import (
    Part,
    Source,
    read_json,
    read_tensors,
    weight_files,
    without_prefix,
)
from expotion_cli.music.melody import SPAN_S

LM_FILE, CODEC_FILE = "state_dict.bin", "compression_state_dict.bin"
CONFIG_FILE = "config.json"
_DESCRIPTION = "condition_provider.conditioners.description."
_TEXT = _DESCRIPTION + "t5."
_MELODY = "condition_provider.conditioners.self_wav."
_EXTRACTOR = _MELODY + "chroma."  # windows and filters, which are computed here
# Whole parts of names, in this order, audiocraft's → ours.
_LAYER_NAMES = {
    "linear1": "fc1",
    "linear2": "fc2",
    "norm1": "self_attn_layer_norm",
    "norm_cross": "encoder_attn_layer_norm",
    "norm2": "final_layer_norm",
    "cross_attention": "encoder_attn",
}
_PREFIXES = {
    "transformer.layers.": "layers.",
    "emb.": "embed_tokens.",
    "linears.": "lm_heads.",
    "out_norm.": "layer_norm.",
    _DESCRIPTION + "output_proj.": "enc_to_dec_proj.",
    _MELODY + "output_proj.": "audio_enc_to_dec_proj.",
}
_FUSED = "in_proj_weight"
_SPLIT = ("q_proj.weight", "k_proj.weight", "v_proj.weight")
_CODEC_NAMES = {
    "encoder.model.": "encoder.layers.",
    "decoder.model.": "decoder.layers.",
    "quantizer.vq.layers.": "quantizer.layers.",
    "._codebook.": ".codebook.",
    ".conv.conv.": ".conv.",
    ".convtr.convtr.": ".conv.",
    ".conv.norm.": ".norm.",
    ".convtr.norm.": ".norm.",
}

# Setting → (what this decoder does, audiocraft's value where the setting is left out).
_LM_DOES: dict[str, tuple[Any, Any]] = {
    "lm_model": ("transformer_lm", "transformer_lm"),
    "transformer_lm.norm_first": (True, False),
    "transformer_lm.norm": ("layer_norm", "layer_norm"),
    "transformer_lm.bias_attn": (False, True),
    "transformer_lm.bias_ff": (False, True),
    "transformer_lm.bias_proj": (False, True),
    "transformer_lm.causal": (True, False),
    "transformer_lm.activation": ("gelu", "relu"),
    "transformer_lm.positional_embedding": ("sin", "sin"),
    "transformer_lm.positional_scale": (1, 1),
    "transformer_lm.max_period": (10_000, 10_000),
    "transformer_lm.past_context": (None, None),
    "transformer_lm.layer_scale": (None, None),
    "transformer_lm.qk_layer_norm": (False, False),
    "transformer_lm.qk_layer_norm_cross": (False, False),
    "transformer_lm.kv_repeat": (1, 1),
    "fuser.sum": ([], []),
    "fuser.input_interpolate": ([], []),
    "fuser.cross_attention_pos_emb": (False, False),
    "conditioners.description.model": ("t5", None),
    "conditioners.description.t5.normalize_text": (False, False),
    "codebooks_pattern.delay.flatten_first": (0, 0),
    "codebooks_pattern.delay.empty_initial": (0, 0),
    "interleave_stereo_codebooks.per_timestep": (False, False),
}
_PLAIN_DOES: dict[str, tuple[Any, Any]] = {"fuser.cross": (["description"], []), "fuser.prepend": ([], [])}
_MELODY_DOES: dict[str, tuple[Any, Any]] = {
    "fuser.cross": ([], []),
    "conditioners.self_wav.model": ("chroma_stem", None),
    "conditioners.self_wav.chroma_stem.sample_rate": (pitch_classes.SAMPLE_RATE, None),
    "conditioners.self_wav.chroma_stem.n_chroma": (pitch_classes.NUM_CLASSES, None),
    "conditioners.self_wav.chroma_stem.radix2_exp": (int(math.log2(pitch_classes.FFT_SIZE)), None),
    "conditioners.self_wav.chroma_stem.nfft": (None, None),
    "conditioners.self_wav.chroma_stem.winlen": (None, None),
    "conditioners.self_wav.chroma_stem.winhop": (None, None),
    "conditioners.self_wav.chroma_stem.argmax": (True, False),
}
_CODEC_DOES: dict[str, tuple[Any, Any]] = {
    "compression_model": ("encodec", None),
    "encodec.autoencoder": ("seanet", None),
    "encodec.quantizer": ("rvq", None),
    "encodec.renormalize": (False, False),
    "encodec.channels": (1, None),
    "seanet.channels": (1, 1),
    "seanet.activation": ("ELU", "ELU"),
    "seanet.activation_params.alpha": (1, 1),
    "seanet.norm_params": ({}, {}),
    "seanet.disable_norm_outer_blocks": (0, 0),
    "seanet.encoder": ({}, {}),
    "seanet.decoder.final_activation": (None, None),
}
_DECODER_OVERRIDES = {"trim_right_ratio", "final_activation", "final_activation_params"}


def is_audiocraft(path: Path) -> bool:
    """Whether this is audiocraft's folder, or its language model's file."""
    return path.is_file() or ((path / LM_FILE).is_file() and not (path / CONFIG_FILE).is_file())


def open_audiocraft(path: Path) -> Source:
    """Open audiocraft's files; the module's docstring says where each has to be.

    Args:
        path: the folder, or the path of its `state_dict.bin`.

    Raises:
        WeightsError: a file is missing or damaged, would run code, or asks for what MusicGen's decoder cannot do.
    """
    lm_file = path / LM_FILE if path.is_dir() else path
    folder = lm_file.parent
    settings, state = read_exported(lm_file)
    settings.require(_LM_DOES)
    family = _family(settings)
    decoder = _decoder_settings(settings)
    text_folder = named_beside(folder, str(settings.get("conditioners.description.t5.name")), lm_file, "text encoder")
    text = _text_part(text_folder, state, lm_file)
    audio_config, audio, audio_files = _open_codec(folder)
    config = {
        **family,
        "text_encoder": read_json(text_folder / CONFIG_FILE),
        "audio_encoder": audio_config,
        "decoder": decoder,
    }
    tokenizer = [text_folder / name for name in ("tokenizer.json", "spiece.model")]
    text_files = [text_folder / CONFIG_FILE, *weight_files(text_folder), *filter(Path.is_file, tokenizer)]
    return Source(
        config=config,
        path=lm_file,
        decoder=Part(_decoder_tensors(state, decoder["hidden_size"], lm_file), lm_file, audiocraft_name),
        text=text,
        audio=audio,
        tokenizer=text_folder,
        files=(lm_file, *text_files, *audio_files),
    )


def audiocraft_name(name: str) -> str:
    """What audiocraft calls one of our decoder's parameters."""
    for theirs, ours in _PREFIXES.items():
        if name.startswith(ours):
            name = theirs + name.removeprefix(ours)
            break
    if name.endswith(_SPLIT):
        name = name.rsplit(".", 2)[0] + "." + _FUSED
    back = {ours: theirs for theirs, ours in _LAYER_NAMES.items()}
    return ".".join(back.get(part, part) for part in name.split("."))


def read_exported(path: Path) -> tuple[AudiocraftSettings, Mapping[str, Tensor]]:
    """The settings and the tensors in one of audiocraft's files.

    Raises:
        WeightsError: it is missing, damaged, would run code, or holds something else.
    """
    package = read_torch_file(path)
    if not {"best_state", "xp.cfg"} <= package.keys():
        raise WeightsError(
            f"The file holds {', '.join(map(repr, list(package)[:4]))}, expected 'best_state' and 'xp.cfg'.",
            path=path,
            remedy="Export the training's checkpoint with audiocraft.utils.export.",
        )
    state = package["best_state"]
    if isinstance(state, dict) and isinstance(state.get("model"), dict):
        state = state["model"]  # not exported: as the trainer keeps it
    if not isinstance(state, dict) or not all(isinstance(tensor, Tensor) for tensor in state.values()):
        raise WeightsError("'best_state' holds more than tensors.", path=path)
    return AudiocraftSettings(package["xp.cfg"], path), {str(name): tensor for name, tensor in state.items()}


def _family(settings: AudiocraftSettings) -> dict[str, Any]:
    """What the config of a transformers folder says at its top."""
    names = settings.get("conditioners")
    if others := [name for name in names if name not in ("description", "self_wav", "args")]:
        settings.refuse(f"conditioners.{others[0]}", "'description', words by T5, and 'self_wav', a melody")
    if "self_wav" not in names:
        settings.require(_PLAIN_DOES)
        return {"model_type": "musicgen"}
    settings.require(_MELODY_DOES)
    if settings.get("fuser.prepend", []) not in (["self_wav", "description"], ["description", "self_wav"]):
        settings.refuse("fuser.prepend", "['self_wav', 'description']")
    seconds = settings.whole("dataset.segment_duration", SPAN_S)
    frames = pitch_classes.num_frames(seconds * pitch_classes.SAMPLE_RATE)
    return {"model_type": "musicgen_melody", "num_chroma": pitch_classes.NUM_CLASSES, "chroma_length": frames}


def _decoder_settings(settings: AudiocraftSettings) -> dict[str, Any]:
    dim, card = settings.whole("transformer_lm.dim"), settings.whole("transformer_lm.card")
    num_codebooks = settings.whole("transformer_lm.n_q")
    sides = 2 if settings.get("interleave_stereo_codebooks.use", False) else 1
    modeling = settings.get("codebooks_pattern.modeling", None) or settings.get("transformer_lm.q_modeling", None)
    if modeling != "delay":
        settings.refuse("codebooks_pattern.modeling", "'delay'")
    wanted = [k // sides for k in range(num_codebooks)]
    if settings.get("codebooks_pattern.delay.delays", list(range(num_codebooks))) != wanted:
        settings.refuse("codebooks_pattern.delay.delays", str(wanted))
    return {
        "model_type": "musicgen_decoder",
        "hidden_size": dim,
        "num_hidden_layers": settings.whole("transformer_lm.num_layers"),
        "num_attention_heads": settings.whole("transformer_lm.num_heads"),
        "ffn_dim": settings.whole("transformer_lm.hidden_scale", 4) * dim,
        "num_codebooks": num_codebooks,
        "vocab_size": card,
        "audio_channels": sides,
        "pad_token_id": card,
        "bos_token_id": card,
    }


def _decoder_tensors(state: Mapping[str, Tensor], dim: int, path: Path) -> dict[str, Tensor]:
    tensors: dict[str, Tensor] = {}
    for written, tensor in state.items():
        if written.startswith((_TEXT, _EXTRACTOR)):
            continue
        name = written.replace("_attn.mha.", "_attn.").replace("cross_attention.mha.", "cross_attention.")
        name = ".".join(_LAYER_NAMES.get(part, part) for part in name.split("."))
        for theirs, ours in _PREFIXES.items():
            if name.startswith(theirs):
                name = ours + name.removeprefix(theirs)
                break
        else:
            name = written  # `fill` will refuse it under this name
        if not name.endswith("." + _FUSED):
            tensors[name] = tensor
            continue
        if list(tensor.shape) != [3 * dim, dim]:
            raise WeightsError(
                f"The tensor {written!r} has shape {list(tensor.shape)}, expected {[3 * dim, dim]}.", path=path
            )
        for part, rows in zip(_SPLIT, tensor.chunk(3), strict=True):
            tensors[name.removesuffix(_FUSED) + part] = rows
    return tensors


def _text_part(folder: Path, state: Mapping[str, Tensor], lm_file: Path) -> Part:
    if tuned := without_prefix(state, _TEXT):  # `finetune: true`
        return Part(tuned, lm_file, _TEXT.__add__)
    files = weight_files(folder)
    tensors = read_tensors(files)
    # A whole T5 has a decoder as well, which MusicGen has no use for.
    encoder = {name: t for name, t in tensors.items() if not name.startswith(("decoder.", "lm_head."))}
    return Part(encoder, files[0])


def _open_codec(folder: Path) -> tuple[dict[str, Any], Part, list[Path]]:
    path = folder / CODEC_FILE
    package = read_torch_file(path)
    if "pretrained" in package:
        copy = named_beside(folder, str(package["pretrained"]), path, "codec")
        files = weight_files(copy)
        config = read_json(copy / CONFIG_FILE)
        if config.get("model_type") != "encodec":
            raise WeightsError(f"This is no EnCodec, but {config.get('model_type')!r}.", path=copy / CONFIG_FILE)
        return config, Part(read_tensors(files), files[0]), [copy / CONFIG_FILE, *files]
    settings, state = read_exported(path)
    settings.require(_CODEC_DOES)
    tensors, written = {}, {}
    for theirs, tensor in state.items():
        name = theirs
        for old, new in _CODEC_NAMES.items():
            name = name.replace(old, new)
        tensors[name], written[name] = tensor, theirs
    part = Part(tensors, path, lambda name: written.get(name) or _codec_name(name, state))
    return _codec_config(settings), part, [path]


def _codec_name(name: str, state: Mapping[str, Tensor]) -> str:
    """What audiocraft would call one of transformers' EnCodec tensors that is missing."""
    name = name.replace(".parametrizations.weight.original0", ".weight_g")
    name = name.replace(".parametrizations.weight.original1", ".weight_v")
    name = re.sub(r"^(encoder|decoder)\.layers\.", r"\1.model.", name)
    name = name.replace("quantizer.layers.", "quantizer.vq.layers.").replace(".codebook.", "._codebook.")
    plain, turned = name.replace(".conv.", ".conv.conv."), name.replace(".conv.", ".convtr.convtr.")
    return turned if any(known.startswith(turned.rpartition(".")[0]) for known in state) else plain


def _codec_config(settings: AudiocraftSettings) -> dict[str, Any]:
    if (norm := settings.get("seanet.norm", "none")) not in ("weight_norm", "time_group_norm"):
        settings.refuse("seanet.norm", "'weight_norm' or 'time_group_norm'")
    if not (num_lstm_layers := settings.whole("seanet.lstm", 0)):
        settings.refuse("seanet.lstm", "1 layer or more")
    tuned = set(settings.get("seanet.decoder", None) or {}) - _DECODER_OVERRIDES
    if tuned:
        settings.refuse(f"seanet.decoder.{min(tuned)}", "one set of sizes for encoder and decoder")
    ratios = settings.get("seanet.ratios")
    if not isinstance(ratios, list) or not ratios or not all(isinstance(r, int) and r > 0 for r in ratios):
        settings.refuse("seanet.ratios", "a list of whole numbers")
    sample_rate, num_codebooks = settings.whole("encodec.sample_rate"), settings.whole("rvq.n_q")
    size = settings.whole("rvq.bins")
    bits_per_s = math.ceil(sample_rate / math.prod(ratios)) * math.ceil(math.log2(size)) * num_codebooks
    return {
        "model_type": "encodec",
        # transformers states the number of codebooks as a bandwidth; half a bit keeps it from being rounded down.
        "target_bandwidths": [(bits_per_s + 0.5) / 1000],
        "sampling_rate": sample_rate,
        "audio_channels": 1,
        "normalize": False,
        "hidden_size": settings.whole("seanet.dimension", 128),
        "num_filters": settings.whole("seanet.n_filters", 32),
        "num_residual_layers": settings.whole("seanet.n_residual_layers", 3),
        "upsampling_ratios": ratios,
        "norm_type": norm,
        "kernel_size": settings.whole("seanet.kernel_size", 7),
        "last_kernel_size": settings.whole("seanet.last_kernel_size", 7),
        "residual_kernel_size": settings.whole("seanet.residual_kernel_size", 3),
        "dilation_growth_rate": settings.whole("seanet.dilation_base", 2),
        "use_causal_conv": bool(settings.get("seanet.causal", False)),
        "pad_mode": settings.get("seanet.pad_mode", "reflect"),
        "compress": settings.whole("seanet.compress", 2),
        "num_lstm_layers": num_lstm_layers,
        "trim_right_ratio": settings.get("seanet.decoder.trim_right_ratio", 1.0),
        "codebook_size": size,
        "use_conv_shortcut": not settings.get("seanet.true_skip", True),
    }


def named_beside(folder: Path, name: str, path: Path, role: str) -> Path:
    """Find the folder of a model that one of audiocraft's files only names.

    Args:
        folder: the file's folder.
        name: the model's name in the file.
        path: the file, for errors.
        role: "text encoder" or "codec".

    Raises:
        WeightsError: it is not there.
    """
    found = folder / Path(name).name
    if not (found / CONFIG_FILE).is_file():
        repository = name.removeprefix("//pretrained/")
        raise WeightsError(
            f"The file only names its {role}, {repository!r}, which is not beside it.",
            path=path,
            remedy=f"Run: hf download {repository} config.json model.safetensors"
            f"{' tokenizer.json' if role == 'text encoder' else ''} --local-dir {found}",
        )
    return found
