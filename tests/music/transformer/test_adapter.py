"""The joint-embedding adapter: the method's formulas, word for word, and its files."""

from __future__ import annotations

import json
import math
from dataclasses import replace

import numpy as np
import pytest
import torch

from expotion_cli.errors import WeightsError
from expotion_cli.music.checkpoints.adapter_files import load_adapter, save_adapter
from expotion_cli.music.transformer.adapter import AdapterConfig, JointEmbeddingAdapter, StreamSpec
from expotion_cli.music.transformer.config import DecoderConfig
from expotion_cli.music.transformer.context import LockstepContext
from expotion_cli.music.transformer.decoder import MusicDecoder

CONFIG = DecoderConfig(dim=16, num_layers=3, num_heads=2, ffn_dim=24, num_codebooks=2, vocab_size=11, text_dim=6)
STREAMS = (StreamSpec("pose", ("energy", "accent", "height")), StreamSpec("face", ("smile", "speed")))
LENGTH = 10


def make_decoder() -> MusicDecoder:
    """Random and in double precision (positions alone are float32), so that a deviation is one of meaning."""
    torch.manual_seed(3)
    decoder = MusicDecoder(CONFIG).double().eval().requires_grad_(False)
    for name, parameter in decoder.named_parameters():
        parameter.normal_(mean=1.0 if name.endswith("norm.weight") else 0.0, std=0.35)
    return decoder


def make_adapter(num_layers: int = 3, window_steps: int = LENGTH) -> JointEmbeddingAdapter:
    """Random, all gates open."""
    torch.manual_seed(4)
    sizes = AdapterConfig(CONFIG.dim, num_layers, rank=4, window_steps=window_steps, streams=STREAMS)
    adapter = JointEmbeddingAdapter(sizes).double().eval().requires_grad_(False)
    for parameter in adapter.parameters():
        parameter.normal_(std=0.5)
    return adapter


def make_streams(rows: int, length: int) -> tuple[dict[str, torch.Tensor], dict[str, torch.Tensor]]:
    torch.manual_seed(5)
    values = {s.name: torch.randn(rows, length, len(s.dims), dtype=torch.float64) for s in STREAMS}
    return values, {s.name: torch.ones(rows, length, dtype=torch.bool) for s in STREAMS}


@pytest.fixture(scope="module")
def decoder() -> MusicDecoder:
    return make_decoder()


@pytest.fixture(scope="module")
def inputs(decoder):
    """(tokens [2, K, T], text memory, text states, text mask)"""
    torch.manual_seed(6)
    tokens = torch.randint(0, CONFIG.vocab_size + 1, (2, CONFIG.num_codebooks, LENGTH))
    states = torch.randn(2, 5, CONFIG.text_dim, dtype=torch.float64)
    mask = torch.tensor([[True] * 5, [True] * 3 + [False] * 2])
    return tokens, decoder.encode_text(states, mask), states, mask


# The method once more: plain loops over rows, heads and positions, nothing kept from one position to the next.


def layer_norm(x, weight, bias):
    return (x - x.mean(-1, keepdims=True)) / np.sqrt(x.var(-1, keepdims=True) + 1e-5) * weight + bias


def gelu(x):
    return 0.5 * x * (1 + np.vectorize(math.erf)(x / math.sqrt(2)))


def attention_at(query, keys, values, num_heads):
    """One query [d] over keys and values [M, d], head by head."""
    width, result = len(query) // num_heads, np.zeros_like(query)
    for head in range(num_heads):
        part = slice(head * width, (head + 1) * width)
        scores = np.array([query[part] @ key[part] / math.sqrt(width) for key in keys])
        weights = np.exp(scores - scores.max())
        result[part] = sum(w * v[part] for w, v in zip(weights / weights.sum(), values, strict=True))
    return result


def restated_logits(decoder, adapter, tokens, states, mask, condition, is_tail_last=True):
    """Logits [K, T, V] of one row. tokens [K, T], states [M, text_dim], mask [M], condition [T_c, D]."""
    w = {name: tensor.numpy() for name, tensor in decoder.state_dict().items()}
    a = {name: tensor.numpy() for name, tensor in adapter.state_dict().items()}
    config, num_adapted = decoder.config, adapter.config.num_layers
    dim, heads, half = config.dim, config.num_heads, config.dim // 2

    def normed(x, name):
        return layer_norm(x, w[name + ".weight"], w[name + ".bias"])

    def ffn(x, layer):
        return gelu(normed(x, f"{layer}.final_layer_norm") @ w[f"{layer}.fc1.weight"].T) @ w[f"{layer}.fc2.weight"].T

    side, side_memory = a["pos_emb"][0], {}
    for i in range(num_adapted):
        layer = f"layers.{config.num_layers - num_adapted + i}"
        merged = condition @ a["ld_proj.weight"].T @ a[f"merge_linear.{i}.weight"].T
        n = normed(side, f"{layer}.self_attn_layer_norm") + merged + a["pos_emb"][i + 1]
        q, k, v = (n @ w[f"{layer}.self_attn.{p}_proj.weight"].T for p in "qkv")
        side_memory[layer] = (q, k, v, a["gates"][i])
        own = np.stack([attention_at(q[t], k[: t + 1], v[: t + 1], heads) for t in range(len(n))])
        side = side + own @ w[f"{layer}.self_attn.out_proj.weight"].T
        side = side + ffn(side, layer)

    text = states.numpy() @ w["enc_to_dec_proj.weight"].T + w["enc_to_dec_proj.bias"]
    text = text[mask.numpy()]
    x = np.zeros((tokens.shape[1], dim))
    for t in range(tokens.shape[1]):
        angles = [t * math.exp(-math.log(10_000) * i / (half - 1)) for i in range(half)]
        x[t] = [math.cos(angle) for angle in angles] + [math.sin(angle) for angle in angles]
        x[t] += sum(w[f"embed_tokens.{k}.weight"][tokens[k, t]] for k in range(config.num_codebooks))
    for index in range(config.num_layers):
        layer = f"layers.{index}"
        n = normed(x, f"{layer}.self_attn_layer_norm")
        q, k, v = (n @ w[f"{layer}.self_attn.{p}_proj.weight"].T for p in "qkv")
        own = np.stack([attention_at(q[t], k[: t + 1], v[: t + 1], heads) for t in range(len(x))])
        if layer in side_memory:
            side_q, side_k, side_v, gate = side_memory[layer]
            for t in range(len(x)):
                row = min(t, len(side_q) - 1) if is_tail_last else t % len(side_q)
                own[t] += gate * attention_at(q[t] + side_q[row], side_k, side_v, heads)
        x = x + own @ w[f"{layer}.self_attn.out_proj.weight"].T
        n = normed(x, f"{layer}.encoder_attn_layer_norm") @ w[f"{layer}.encoder_attn.q_proj.weight"].T
        k, v = (text @ w[f"{layer}.encoder_attn.{p}_proj.weight"].T for p in "kv")
        crossed = np.stack([attention_at(row, k, v, heads) for row in n])
        x = x + crossed @ w[f"{layer}.encoder_attn.out_proj.weight"].T
        x = x + ffn(x, layer)
    x = normed(x, "layer_norm")
    return np.stack([x @ w[f"lm_heads.{k}.weight"].T for k in range(config.num_codebooks)])


def test_with_all_gates_at_0_the_logits_are_bit_identical_to_no_adapter(decoder, inputs):
    tokens, text, *_ = inputs
    adapter = make_adapter()
    condition = adapter.join_streams(*make_streams(2, LENGTH + 1))
    plain = decoder(tokens, LockstepContext(text))
    opened = decoder(tokens, LockstepContext(text, side_stream=adapter.side_stream(decoder, condition)))
    adapter.gates.zero_()
    shut = decoder(tokens, LockstepContext(text, side_stream=adapter.side_stream(decoder, condition)))
    assert torch.equal(shut, plain)
    assert (opened - plain).abs().max() > 0.1


def test_a_new_adapter_changes_nothing():
    adapter = JointEmbeddingAdapter(AdapterConfig(16, 3, 4, LENGTH, STREAMS))
    assert torch.equal(adapter.gates, torch.zeros(3))
    assert adapter.ld_proj.bias is None and all(layer.bias is None for layer in adapter.merge_linear)


@pytest.mark.parametrize("num_adapted", [3, 2, 1])
def test_logits_equal_a_direct_restatement_of_the_formulas(decoder, inputs, num_adapted):
    tokens, text, states, mask = inputs
    adapter = make_adapter(num_adapted)
    condition = adapter.join_streams(*make_streams(2, LENGTH + 1))
    ours = decoder(tokens, LockstepContext(text, side_stream=adapter.side_stream(decoder, condition))).numpy()
    for row in range(2):
        direct = restated_logits(decoder, adapter, tokens[row], states[row], mask[row], condition[row].numpy())
        assert np.abs(ours[row] - direct).max() < 1e-6


def test_positions_past_the_conditions_end_take_its_last_row(decoder, inputs):
    tokens, text, states, mask = inputs
    adapter = make_adapter(window_steps=6)
    condition = adapter.join_streams(*make_streams(2, 7))
    visual = adapter.side_stream(decoder, condition)
    ours = decoder(tokens, LockstepContext(text, side_stream=visual)).numpy()
    arguments = (decoder, adapter, tokens[0], states[0], mask[0], condition[0].numpy())
    assert np.abs(ours[0] - restated_logits(*arguments)).max() < 1e-6
    assert np.abs(ours[0] - restated_logits(*arguments, is_tail_last=False)).max() > 1e-3
    context = LockstepContext(text, cache=decoder.new_cache(2, LENGTH), side_stream=visual)
    steps = [decoder(tokens[:, :, t : t + 1], context) for t in range(LENGTH)]
    assert np.abs(torch.cat(steps, dim=2).numpy() - ours).max() < 1e-6


@pytest.mark.parametrize("sizes", [(1,) * LENGTH, (4, 1, 3, 1, 1), (LENGTH,)])
def test_cached_steps_with_the_adapter_equal_the_whole_sequence(decoder, inputs, sizes):
    tokens, text, *_ = inputs
    adapter = make_adapter(2)
    visual = adapter.side_stream(decoder, adapter.join_streams(*make_streams(2, LENGTH + 1)))
    whole = decoder(tokens, LockstepContext(text, side_stream=visual))
    context, parts, start = LockstepContext(text, cache=decoder.new_cache(2, LENGTH), side_stream=visual), [], 0
    for size in sizes:
        parts.append(decoder(tokens[:, :, start : start + size], context))
        start += size
    assert (torch.cat(parts, dim=2) - whole).abs().max() < 1e-6


def test_attention_to_the_picture_looks_ahead_and_attention_to_the_music_does_not(decoder, inputs):
    tokens, text, *_ = inputs
    adapter = make_adapter()
    values, masks = make_streams(2, LENGTH + 1)
    before = decoder(
        tokens, LockstepContext(text, side_stream=adapter.side_stream(decoder, adapter.join_streams(values, masks)))
    )
    values["pose"][:, -1] += 1.0
    later_picture = decoder(
        tokens, LockstepContext(text, side_stream=adapter.side_stream(decoder, adapter.join_streams(values, masks)))
    )
    assert (later_picture[:, :, 0] - before[:, :, 0]).abs().max() > 1e-6
    changed = tokens.clone()
    changed[:, :, 6:] = (changed[:, :, 6:] + 1) % CONFIG.vocab_size
    later_music = decoder(
        changed, LockstepContext(text, side_stream=adapter.side_stream(decoder, adapter.join_streams(values, masks)))
    )
    assert (later_music[:, :, :6] - later_picture[:, :, :6]).abs().max() < 1e-12
    assert (later_music[:, :, 6] - later_picture[:, :, 6]).abs().max() > 1e-6


def test_only_the_last_layers_are_adapted(decoder):
    adapter = make_adapter(2)
    visual = adapter.side_stream(decoder, adapter.join_streams(*make_streams(1, LENGTH + 1)))
    assert visual.first_layer == 1
    assert len(visual.queries) == len(visual.keys) == len(visual.values) == len(visual.gates) == 2


def test_where_a_stream_is_masked_its_learned_row_stands_and_its_values_do_not_matter():
    adapter = make_adapter()
    values, masks = make_streams(2, 7)
    masks["face"][0, 2:5] = False
    joined = adapter.join_streams(values, masks)
    assert torch.equal(joined[0, 2:5, 3:], adapter.missing["face"].expand(3, -1))
    assert torch.equal(joined[0, 5:, 3:], values["face"][0, 5:])
    assert torch.equal(joined[1, :, 3:], values["face"][1])
    assert torch.equal(joined[..., :3], values["pose"])
    values["face"][0, 2:5] = torch.nan
    assert torch.equal(adapter.join_streams(values, masks), joined)


def test_a_stream_left_out_equals_one_masked_throughout():
    adapter = make_adapter()
    values, masks = make_streams(2, 7)
    masks["face"][:] = False
    joined = adapter.join_streams(values, masks)
    del values["face"], masks["face"]
    assert torch.equal(adapter.join_streams(values, masks), joined)


def test_an_adapter_survives_its_files(decoder, tmp_path):
    adapter = make_adapter(2)
    save_adapter(tmp_path, adapter, "some-model", torch.float32)
    loaded, digest = load_adapter(tmp_path, decoder)
    assert loaded.config == adapter.config
    for name, value in loaded.state_dict().items():
        assert torch.equal(value.float(), adapter.state_dict()[name].float())
    assert not any(parameter.requires_grad for parameter in loaded.parameters())
    values = json.loads((tmp_path / "adapter_config.json").read_text())
    assert values["base_model_name_or_path"] == "some-model" and "peft_type" in values
    assert load_adapter(tmp_path, decoder)[1] == digest
    adapter.gates += 1
    save_adapter(tmp_path, adapter, "some-model", torch.float32)
    assert load_adapter(tmp_path, decoder)[1] != digest


def test_tensors_on_disk_have_the_names_and_shapes_of_the_released_checkpoints(tmp_path):
    from safetensors.torch import load_file

    save_adapter(tmp_path, make_adapter(2), "some-model", torch.float32)
    shapes = {name: tuple(t.shape) for name, t in load_file(tmp_path / "adapter_model.safetensors").items()}
    missing = {name: shapes.pop(name) for name in list(shapes) if name.startswith("missing.")}
    assert shapes == {
        "pos_emb": (3, LENGTH + 1, 16),
        "ld_proj.weight": (4, 5),
        "merge_linear.0.weight": (16, 4),
        "merge_linear.1.weight": (16, 4),
        "gates": (2,),
    }
    assert missing == {"missing.pose": (3,), "missing.face": (2,)}


def test_an_adapter_for_another_width_or_depth_is_refused_by_name(tmp_path):
    save_adapter(tmp_path, make_adapter(), "some-model", torch.float32)
    for other in (replace(CONFIG, dim=32), replace(CONFIG, num_layers=2)):
        with pytest.raises(WeightsError, match="width 16 with at least 3 layers") as caught:
            load_adapter(tmp_path, MusicDecoder(other))
        assert str(tmp_path) in str(caught.value) and caught.value.exit_code == 4


def test_an_adapter_of_another_type_is_refused_by_name(decoder, tmp_path):
    save_adapter(tmp_path, make_adapter(), "some-model", torch.float32)
    path = tmp_path / "adapter_config.json"
    values = json.loads(path.read_text())
    path.write_text(json.dumps({**values, "peft_type": "LORA"}))
    with pytest.raises(WeightsError, match="'LORA'") as caught:
        load_adapter(tmp_path, decoder)
    assert str(path) in str(caught.value)
    del values["rank"]
    path.write_text(json.dumps(values))
    with pytest.raises(WeightsError, match="'rank'"):
        load_adapter(tmp_path, decoder)


def test_a_truncated_or_foreign_adapter_file_is_named(decoder, tmp_path):
    from safetensors.torch import load, save_file

    save_adapter(tmp_path, make_adapter(), "some-model", torch.float32)
    path = tmp_path / "adapter_model.safetensors"
    whole = path.read_bytes()
    path.write_bytes(whole[: len(whole) // 2])
    with pytest.raises(WeightsError, match="adapter_model.safetensors"):
        load_adapter(tmp_path, decoder)
    save_file({**load(whole), "gates": torch.zeros(5)}, path)
    with pytest.raises(WeightsError, match=r"gates.*\[5\], expected \[3\]"):
        load_adapter(tmp_path, decoder)
    path.unlink()
    with pytest.raises(WeightsError, match="adapter_model.safetensors"):
        load_adapter(tmp_path, decoder)
