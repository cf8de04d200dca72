"""Synchformer whole: pictures and sound in, by how much the sound is early or late out.

V. Iashin et al., "Synchformer: Efficient Synchronization from Sparse Cues", arXiv 2401.16423. Each segment of 0.64 s
goes by itself through the visual encoder (`vision.synchformer_model`) and the audio encoder (`synchformer_audio`); 14
of them, one every 0.32 s, make 4.8 s. Their rows, brought to one width, stand in one line: a token that asks, 14 x 8
rows of pictures, a token that parts the two, 14 x 6 rows of sound. A small transformer reads the line, and what the
first token has become tells which of 21 offsets it is, from -2 to +2 s in steps of 0.2 s. Module names follow the
published checkpoints, so that their tensors fit as they are.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from expotion_cli.errors import WeightsError
from expotion_cli.evaluation.synchformer_audio import AudioEncoder, AudioSizes
from expotion_cli.vision import networks
from expotion_cli.vision.synchformer_model import Sizes, VisualEncoder, attend, unwrapped

MAX_OFFSET_S = 2.0
MANY_DEVICES = "module."
"""Stands before every name where the model was trained on many devices."""
UNUSED = ("vfeat_extractor.patch_embed.",)
"""What the published file holds besides: an embedding of single pictures, which the authors leave out too."""
_MARK = "transformer.OFF_tok"


@dataclass(frozen=True)
class ModelSizes:
    """Sizes of the whole model, as published by default.

    Attributes:
        visual: of the visual encoder.
        audio: of the audio encoder.
        width: of the line's tokens.
        depth: blocks of the transformer that reads the line.
        heads: its attention heads.
        spread: width of its feed-forward layers in `width`.
        segments: in a line.
        classes: offsets that are told apart.
    """

    visual: Sizes = Sizes()
    audio: AudioSizes = AudioSizes()
    width: int = 768
    depth: int = 3
    heads: int = 8
    spread: int = 4
    segments: int = 14
    classes: int = 21

    @property
    def places(self) -> int:
        """Tokens in a line."""
        return 2 + self.segments * (self.visual.moments + self.audio.moments)


class AudioVisualModel(nn.Module):
    """Tells by how much sound is shifted against pictures.

    `vfeat_extractor` and `afeat_extractor` are called for themselves, once a segment; calling the model compares.

    Args:
        sizes: as published by default.
    """

    def __init__(self, sizes: ModelSizes | None = None):
        super().__init__()
        self.sizes = sizes = sizes or ModelSizes()
        self.vfeat_extractor = VisualEncoder(sizes.visual)
        self.afeat_extractor = AudioEncoder(sizes.audio)
        self.vproj = nn.Linear(sizes.visual.width, sizes.width)
        self.aproj = nn.Linear(sizes.audio.width, sizes.width)
        self.transformer = SyncTransformer(sizes)

    def forward(self, seen: Tensor, heard: Tensor) -> Tensor:
        """What is likely of each offset.

        Args:
            seen: [B, segments, moments, D] from `vfeat_extractor`.
            heard: [B, segments, moments, D] from `afeat_extractor`, of the same times.

        Returns:
            [B, classes] logits; class i stands for `offsets_s(classes)[i]` seconds.
        """
        return self.transformer(self.vproj(seen.flatten(1, 2)), self.aproj(heard.flatten(1, 2)))


class SyncTransformer(nn.Module):
    """Reads a line of pictures and sound: the synchronisation module.

    Args:
        sizes: of the whole model.
    """

    def __init__(self, sizes: ModelSizes):
        super().__init__()
        self.vis_in_lnorm, self.aud_in_lnorm = nn.LayerNorm(sizes.width), nn.LayerNorm(sizes.width)
        self.OFF_tok = nn.Parameter(torch.zeros(1, 1, sizes.width))
        self.MOD_tok = nn.Parameter(torch.zeros(1, 1, sizes.width))
        self.pos_emb_cfg = nn.ParameterDict({"pos_emb": torch.zeros(1, sizes.places, sizes.width)})
        self.blocks = nn.Sequential(*(_Block(sizes) for _ in range(sizes.depth)))
        self.ln_f = nn.LayerNorm(sizes.width)
        self.off_head = nn.Linear(sizes.width, sizes.classes)

    def forward(self, seen: Tensor, heard: Tensor) -> Tensor:
        """[B, segments * moments, width] of each → [B, classes]."""
        asks, parts = (token.expand(len(seen), -1, -1) for token in (self.OFF_tok, self.MOD_tok))
        line = torch.cat([asks, self.vis_in_lnorm(seen), parts, self.aud_in_lnorm(heard)], dim=1)
        line = self.blocks(line + self.pos_emb_cfg["pos_emb"])
        return self.off_head(self.ln_f(line[:, 0]))


class _Block(nn.Module):
    """A pre-norm transformer layer in which every token sees all."""

    def __init__(self, sizes: ModelSizes):
        super().__init__()
        self.ln1, self.ln2 = nn.LayerNorm(sizes.width), nn.LayerNorm(sizes.width)
        parts = ("key", "query", "value", "proj")
        self.attn = nn.ModuleDict({name: nn.Linear(sizes.width, sizes.width) for name in parts})
        wide = sizes.spread * sizes.width
        self.mlp = nn.ModuleDict({"0": nn.Linear(sizes.width, wide), "2": nn.Linear(wide, sizes.width)})
        self._heads = sizes.heads

    def forward(self, line: Tensor) -> Tensor:
        attn, seen = self.attn, self.ln1(line)
        line = line + attn["proj"](attend(attn["query"](seen), attn["key"](seen), attn["value"](seen), self._heads))
        return line + self.mlp["2"](F.gelu(self.mlp["0"](self.ln2(line))))


def offsets_s(classes: int) -> list[float]:
    """Seconds by which the sound is early, for each class: evenly from -2 to +2, so the middle one is in time."""
    return [MAX_OFFSET_S * (2 * i / (classes - 1) - 1) for i in range(classes)]


def load_model(path: str | Path, sizes: ModelSizes | None = None, *, remedy: str = "") -> AudioVisualModel:
    """The whole model out of its published checkpoint.

    Args:
        path: a torch file (a dict of tensors, or one with such a dict as "model" or "state_dict") or safetensors.
        sizes: as published by default.
        remedy: what to do where the file is wrong.

    Returns:
        The model, frozen, float32 on the CPU.

    Raises:
        WeightsError: the file can't be read, or does not hold all tensors of this model and none besides.
    """
    path = Path(path)
    prefix, tensors = _whole(networks.read_tensors(path, remedy), path, remedy)
    with torch.device("meta"):
        model = AudioVisualModel(sizes)
    networks.fill(model, tensors, path, remedy, lambda name: prefix + name)
    return model


def _whole(content: Mapping, path: Path, remedy: str) -> tuple[str, dict[str, Tensor]]:
    """The model's tensors by its own names, and what stands before those names in the file."""
    content = {str(name): value for name, value in unwrapped(content).items()}
    prefix = next((prefix for prefix in ("", MANY_DEVICES) if prefix + _MARK in content), None)
    if prefix is None:
        reason = f"There is no synchronisation model in this file: no tensor is called {_MARK}."
        raise WeightsError(reason, path=path, remedy=remedy)
    named = {name.removeprefix(prefix): value for name, value in content.items()}
    return prefix, {name: value for name, value in named.items() if not name.startswith(UNUSED)}
