"""The same test on the CPU, where every run has it, and on a GPU, with `-m gpu`."""

from __future__ import annotations

import pytest
import torch

NEEDS_CUDA = pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
DEVICES = ["cpu", pytest.param("cuda", marks=(pytest.mark.gpu, NEEDS_CUDA))]
