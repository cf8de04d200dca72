"""The text encoder is T5's: its states are those of transformers' implementation."""

from __future__ import annotations

import subprocess
import sys

import pytest
import torch

from expotion_cli.music.transformer.t5 import GATED_GELU, RELU, T5Encoder, T5Settings

SIZES = {"vocab_size": 90, "d_model": 24, "d_kv": 8, "d_ff": 40, "num_layers": 3, "num_heads": 4}


@pytest.fixture(params=[RELU, GATED_GELU])
def pair(request):
    from transformers import T5Config, T5EncoderModel

    torch.manual_seed(0)
    config = {**SIZES, "feed_forward_proj": request.param}
    theirs = T5EncoderModel(T5Config(**config, dropout_rate=0.0)).eval()
    ours = T5Encoder(T5Settings.from_config(config)).eval()
    ours.load_state_dict(theirs.state_dict())
    return ours, theirs


@torch.no_grad()
@pytest.mark.parametrize("tokens", [1, 9, 200])
def test_states_are_those_of_transformers(pair, tokens):
    ours, theirs = pair
    ids = torch.randint(0, SIZES["vocab_size"], (2, 200), generator=torch.Generator().manual_seed(tokens))
    mask = torch.arange(200).expand(2, -1) < tokens
    expected = theirs(input_ids=ids, attention_mask=mask.long()).last_hidden_state[mask]
    found = ours(ids, mask)[mask]
    if ours.settings.feed_forward_proj == RELU:
        assert torch.equal(found, expected)
    else:
        torch.testing.assert_close(found, expected, rtol=1e-5, atol=1e-5)  # transformers spells out GELU's formula


@pytest.mark.parametrize(
    ("key", "value"), [("d_model", "24"), ("num_layers", 0), ("num_heads", True), ("feed_forward_proj", "silu")]
)
def test_settings_that_cannot_be_used_are_named(key, value):
    with pytest.raises(ValueError, match=key):
        T5Settings.from_config({**SIZES, key: value})


@pytest.mark.long
def test_loading_the_embedded_model_imports_neither_transformers_nor_a_compiler():
    code = (
        "import sys; from expotion_cli.music.load import load_model; load_model(device='cpu');"
        "print(*{'transformers', 'sympy', 'torch._dynamo', 'torchvision', 'scipy'} & set(sys.modules))"
    )
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert run.stdout.strip() == ""
