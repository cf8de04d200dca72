"""Silero VAD, a network that hears speech: the probability that somebody speaks, for every 32 ms of sound.

Silero Team, "Silero VAD: pre-trained enterprise-grade Voice Activity Detector", 2020 to 2026, in plain PyTorch. A frame
and the end of the one before become a spectrum, four convolutions look at it, and an LSTM remembers what came before.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

SAMPLE_RATE = 16_000
FRAME, CONTEXT = 512, 64
"""Samples of a frame, and of the one before that are heard with it."""
_SPECTRUM, _HOP, _BINS, _AFTER = 256, 128, 129, 64
_WIDTH = 128

State = tuple[Tensor, Tensor]


class SileroVad(nn.Module):
    """The whole network, at 16 kHz."""

    def __init__(self) -> None:
        super().__init__()
        self.stft_conv = nn.Conv1d(1, 2 * _BINS, _SPECTRUM, stride=_HOP, bias=False)
        self.conv1 = nn.Conv1d(_BINS, 128, 3, padding=1)
        self.conv2 = nn.Conv1d(128, 64, 3, stride=2, padding=1)
        self.conv3 = nn.Conv1d(64, 64, 3, stride=2, padding=1)
        self.conv4 = nn.Conv1d(64, _WIDTH, 3, padding=1)
        self.lstm = nn.LSTM(_WIDTH, _WIDTH)
        self.final_conv = nn.Conv1d(_WIDTH, 1, 1)

    def forward(self, frames: Tensor, state: State | None = None) -> tuple[Tensor, State]:
        """Listen to frames that follow each other.

        Args:
            frames: [N, CONTEXT + FRAME] float32, full scale 1; each begins with the end of the one before.
            state: of the frame before these; None at the beginning of a sound.

        Returns:
            [N] probabilities, and the state after the last frame.
        """
        parts = self.stft_conv(F.pad(frames, (0, _AFTER), mode="reflect")[:, None])
        x = (parts[:, :_BINS].square() + parts[:, _BINS:].square()).sqrt()  # [N, bins, 4]
        for conv in (self.conv1, self.conv2, self.conv3, self.conv4):
            x = F.relu(conv(x))
        remembered, state = self.lstm(x.squeeze(-1), state)  # [N, width]
        return torch.sigmoid(self.final_conv(F.relu(remembered)[..., None])).flatten(), state
