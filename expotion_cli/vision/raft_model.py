"""RAFT (Teed and Deng 2020, arXiv:2003.12039) as torchvision builds it, run on one frame after another.

Z. Teed and J. Deng, "RAFT: Recurrent All-Pairs Field Transforms for Optical Flow", arXiv 2003.12039. The modules are
those of torchvision's `raft_large`; only the order in which they are called is ours, so that the features of a frame
are computed once, though it is the second of one pair and the first of the next, and though two encoders ask for them.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from expotion_cli.vision import networks

WIDTH = 256
CELL = 8
"""Points of a picture's side in one of the feature map's."""
MAX_SIDE = 640
"""Longer frames are cut at both ends, because memory grows with the square of the number of pixels."""


class RaftNetwork:
    """RAFT on one device.

    What was found out about the last two frames is kept until `forget`, and found again by the array they are in.

    Args:
        module: torchvision's.
        device: torch's name for it.
        dtype: see `networks.arithmetic`.
    """

    def __init__(self, module: nn.Module, device: str = "cpu", dtype: str = "float32"):
        self._module: Any = module.to(device)
        self._device, self._dtype = device, dtype
        self._known: list[tuple[np.ndarray, Tensor]] = []

    def summary(self, pixels: np.ndarray) -> np.ndarray:
        """float32 [256]: the feature encoder's channels, each the mean over all places of a frame [H, W, 3] uint8."""
        return self._features(pixels).float().mean(dim=(0, 2, 3)).cpu().numpy()

    def flow(self, before: np.ndarray, after: np.ndarray, updates: int = 12) -> np.ndarray:
        """By how many pixels each point moved from one frame to the next.

        Args:
            before: [H, W, 3] uint8, of one size.
            after: [H, W, 3] uint8, of one size.
            updates: how often the flow is improved.

        Returns:
            float32 [h, w, 2], right and down; h and w as `fit` leaves them.
        """
        module = self._module
        features = self._features(before), self._features(after)
        with torch.inference_mode(), networks.arithmetic(self._device, self._dtype):
            module.corr_block.build_pyramid(*features)
            hidden_width = module.update_block.hidden_state_size
            hidden, context = module.context_encoder(self._tensor(before)).tensor_split([hidden_width], dim=1)
            hidden, context = hidden.tanh(), context.relu()
            here = _places(features[0])
            there = here
            for _ in range(updates):
                matches = module.corr_block.index_pyramid(centroids_coords=there)
                hidden, step = module.update_block(hidden, context, matches, there - here)
                there = there + step
            shares = module.mask_predictor(hidden)
        return _finer((there - here).float(), shares.float())[0].permute(1, 2, 0).cpu().numpy()

    def forget(self) -> None:
        """Let go of the last frames."""
        self._known = []

    def _features(self, pixels: np.ndarray) -> Tensor:
        """[1, 256, h / 8, w / 8]."""
        for array, found in self._known:
            if array is pixels:
                return found
        with torch.inference_mode(), networks.arithmetic(self._device, self._dtype):
            found = self._module.feature_encoder(self._tensor(pixels))
        self._known = [*self._known[-1:], (pixels, found)]
        return found

    def _tensor(self, pixels: np.ndarray) -> Tensor:
        """[1, 3, h, w] float32 in -1..1."""
        fitted = torch.from_numpy(np.ascontiguousarray(fit(pixels))).to(self._device)
        return fitted.permute(2, 0, 1)[None] / 127.5 - 1


def fit(pixels: np.ndarray) -> np.ndarray:
    """The middle of a frame, as large as whole cells and `MAX_SIDE` allow."""
    height, width = (min(size, MAX_SIDE) // CELL * CELL for size in pixels.shape[:2])
    top, left = (pixels.shape[0] - height) // 2, (pixels.shape[1] - width) // 2
    return pixels[top : top + height, left : left + width]


def load_raft(path: str | Path, *, remedy: str = "") -> nn.Module:
    """torchvision's `raft_large` with the weights of a file, frozen, float32 on the CPU.

    Raises:
        WeightsError: the file is missing or damaged, or holds another network.
    """
    from torchvision.models.optical_flow import raft_large

    path = Path(path)
    tensors = networks.read_tensors(path, remedy)
    with torch.device("meta"):
        module = raft_large(weights=None, progress=False)
    networks.fill(module, tensors, path, remedy)
    return module


def _places(features: Tensor) -> Tensor:
    """[1, 2, h, w]: column and row of each place."""
    height, width = features.shape[2:]
    rows, columns = torch.meshgrid(torch.arange(height), torch.arange(width), indexing="ij")
    return torch.stack([columns, rows])[None].to(features.device, torch.float32)


def _finer(flow: Tensor, weights: Tensor) -> Tensor:
    """[1, 2, h, w] in cells → [1, 2, 8 h, 8 w] in pixels: each point is a weighted mean of the nine cells around it.

    Args:
        flow: in cells.
        weights: [1, 9 * 8 * 8, h, w], before they are made to sum to 1.
    """
    height, width = flow.shape[2:]
    shares = weights.view(9, CELL, CELL, height, width).softmax(dim=0)
    around = F.unfold(CELL * flow, 3, padding=1).view(2, 9, height, width)
    finer = torch.einsum("kabhw,ckhw->chawb", shares, around)
    return finer.reshape(1, 2, CELL * height, CELL * width)
