"""Synchformer's audio encoder and synchronisation module: published layout, arithmetic, loading; random weights."""

from __future__ import annotations

import argparse
import dataclasses

import numpy as np
import pytest
import torch

from expotion_cli.errors import WeightsError
from expotion_cli.evaluation.synchformer_audio import AudioEncoder, AudioSizes, log_mel, mel_bands
from expotion_cli.evaluation.synchformer_av import AudioVisualModel, ModelSizes, SyncTransformer, load_model, offsets_s
from expotion_cli.vision.synchformer_model import Sizes, VisualEncoder, load_encoder
from expotion_cli.weights.manifest import find_manifest


def linear(name: str, outputs: int, inputs: int) -> dict[str, tuple[int, ...]]:
    return {f"{name}.weight": (outputs, inputs), f"{name}.bias": (outputs,)}


def norm(name: str) -> dict[str, tuple[int, ...]]:
    return {f"{name}.weight": (768,), f"{name}.bias": (768,)}


# The tensors of the published `synchformer_state_dict.pth` besides the visual encoder's.
PUBLISHED = {
    "afeat_extractor.ast.embeddings.cls_token": (1, 1, 768),
    "afeat_extractor.ast.embeddings.distillation_token": (1, 1, 768),
    "afeat_extractor.ast.embeddings.position_embeddings": (1, 74, 768),
    "afeat_extractor.ast.embeddings.patch_embeddings.projection.weight": (768, 1, 16, 16),
    "afeat_extractor.ast.embeddings.patch_embeddings.projection.bias": (768,),
    **norm("afeat_extractor.ast.layernorm"),
    "afeat_extractor.freq_attn_agg.cls_token": (1, 1, 768),
    "afeat_extractor.freq_attn_agg.self_attn.in_proj_weight": (2304, 768),
    "afeat_extractor.freq_attn_agg.self_attn.in_proj_bias": (2304,),
    **linear("afeat_extractor.freq_attn_agg.self_attn.out_proj", 768, 768),
    **linear("afeat_extractor.freq_attn_agg.linear1", 3072, 768),
    **linear("afeat_extractor.freq_attn_agg.linear2", 768, 3072),
    **norm("afeat_extractor.freq_attn_agg.norm1"),
    **norm("afeat_extractor.freq_attn_agg.norm2"),
    **linear("vproj", 768, 768),
    **linear("aproj", 768, 768),
    "transformer.OFF_tok": (1, 1, 768),
    "transformer.MOD_tok": (1, 1, 768),
    "transformer.pos_emb_cfg.pos_emb": (1, 198, 768),
    **norm("transformer.vis_in_lnorm"),
    **norm("transformer.aud_in_lnorm"),
    **norm("transformer.ln_f"),
    **linear("transformer.off_head", 21, 768),
}
PUBLISHED_LAYER = {
    **linear("attention.attention.query", 768, 768),
    **linear("attention.attention.key", 768, 768),
    **linear("attention.attention.value", 768, 768),
    **linear("attention.output.dense", 768, 768),
    **linear("intermediate.dense", 3072, 768),
    **linear("output.dense", 768, 3072),
    **norm("layernorm_before"),
    **norm("layernorm_after"),
}
PUBLISHED_BLOCK = {
    **norm("ln1"),
    **norm("ln2"),
    **linear("attn.key", 768, 768),
    **linear("attn.query", 768, 768),
    **linear("attn.value", 768, 768),
    **linear("attn.proj", 768, 768),
    **linear("mlp.0", 3072, 768),
    **linear("mlp.2", 768, 3072),
}

TINY = ModelSizes(
    visual=Sizes(width=12, depth=1, heads=3, spread=2, side=8, patch=4, frames=4, tube=2),
    audio=AudioSizes(width=18, depth=2, heads=3, spread=2, bands=20, rows=26, patch=6, step=5),
    width=16,
    depth=2,
    heads=4,
    spread=3,
    segments=3,
    classes=7,
)


def random_weights(sizes: ModelSizes = TINY, deviation: float = 0.3) -> dict[str, torch.Tensor]:
    """Weights under the model's own names, large enough that every part of it matters."""
    generator = torch.Generator().manual_seed(0)
    with torch.device("meta"):
        names = AudioVisualModel(sizes).state_dict()
    return {
        name: deviation * torch.randn(own.shape, generator=generator) + (own.ndim == 1 and name.endswith(".weight"))
        for name, own in names.items()
    }


def part_of(weights: dict[str, torch.Tensor], prefix: str) -> dict[str, torch.Tensor]:
    return {name.removeprefix(prefix): tensor for name, tensor in weights.items() if name.startswith(prefix)}


@pytest.fixture(scope="module")
def full_size() -> dict[str, tuple[int, ...]]:
    with torch.device("meta"):
        return {name: tuple(tensor.shape) for name, tensor in AudioVisualModel().state_dict().items()}


def test_names_and_shapes_are_those_of_the_published_checkpoint(full_size):
    expected = PUBLISHED | {
        f"afeat_extractor.ast.encoder.layer.{number}.{name}": shape
        for number in range(12)
        for name, shape in PUBLISHED_LAYER.items()
    }
    expected |= {
        f"transformer.blocks.{number}.{name}": shape for number in range(3) for name, shape in PUBLISHED_BLOCK.items()
    }
    with torch.device("meta"):
        visual = {f"vfeat_extractor.{name}": tuple(t.shape) for name, t in VisualEncoder().state_dict().items()}
    assert full_size == expected | visual


def test_the_file_of_the_visual_encoder_is_just_large_enough_for_the_whole_model(full_size):
    (file,) = find_manifest("synchformer").files
    unused = 768 * 3 * 16 * 16 + 768  # `vfeat_extractor.patch_embed.proj`
    num_bytes = 4 * (sum(int(np.prod(shape)) for shape in full_size.values()) + unused)
    # what is left over are names and headers, some hundred bytes for each tensor
    assert 0 < file.num_bytes - num_bytes < 1000 * len(full_size)


def test_the_middle_class_is_in_time_and_the_others_lie_a_fifth_of_a_second_apart():
    found = offsets_s(21)
    np.testing.assert_allclose(found, np.arange(-10, 11) / 5, atol=1e-12)
    assert found[10] == 0


class Plainly:
    """The published forward pass again, in numpy, one item at a time."""

    def __init__(self, weights: dict[str, torch.Tensor]):
        self.weights = {name: tensor.double().numpy() for name, tensor in weights.items()}

    def __getitem__(self, name: str) -> np.ndarray:
        return self.weights[name]

    def linear(self, x, name):
        return x @ self[f"{name}.weight"].T + self[f"{name}.bias"]

    def norm(self, x, name, epsilon):
        centred = x - x.mean(-1, keepdims=True)
        scaled = centred / np.sqrt((centred**2).mean(-1, keepdims=True) + epsilon)
        return scaled * self[f"{name}.weight"] + self[f"{name}.bias"]

    def attend(self, query, key, value, heads):
        wide = query.shape[1] // heads
        rows = []
        for head in range(heads):
            of = slice(head * wide, (head + 1) * wide)
            scores = np.exp(query[:, of] @ key[:, of].T / np.sqrt(wide))
            rows.append(scores / scores.sum(1, keepdims=True) @ value[:, of])
        return np.concatenate(rows, axis=1)

    def audio(self, spectrum, sizes):
        """[bands, rows] → [moments, D]."""
        patches = []
        for height in range(sizes.heights):
            for moment in range(sizes.moments):
                low, first = height * sizes.step, moment * sizes.step
                patch = spectrum[low : low + sizes.patch, first : first + sizes.patch]
                kernel = self["ast.embeddings.patch_embeddings.projection.weight"][:, 0]
                bias = self["ast.embeddings.patch_embeddings.projection.bias"]
                patches.append((kernel * patch).sum((1, 2)) + bias)
        first = [self["ast.embeddings.cls_token"][0, 0], self["ast.embeddings.distillation_token"][0, 0]]
        x = np.stack([*first, *patches]) + self["ast.embeddings.position_embeddings"][0]
        for layer in (f"ast.encoder.layer.{number}" for number in range(sizes.depth)):
            seen = self.norm(x, f"{layer}.layernorm_before", 1e-12)
            parts = (self.linear(seen, f"{layer}.attention.attention.{name}") for name in ("query", "key", "value"))
            x = x + self.linear(self.attend(*parts, sizes.heads), f"{layer}.attention.output.dense")
            seen = self.norm(x, f"{layer}.layernorm_after", 1e-12)
            x = x + self.linear(gelu(self.linear(seen, f"{layer}.intermediate.dense")), f"{layer}.output.dense")
        tokens = self.norm(x, "ast.layernorm", 1e-12)[2:].reshape(sizes.heights, sizes.moments, -1)
        return np.stack([self.gather(tokens[:, moment], sizes) for moment in range(sizes.moments)])

    def gather(self, members, sizes):
        x, name = np.concatenate([self["freq_attn_agg.cls_token"][0], members]), "freq_attn_agg"
        seen = self.norm(x, f"{name}.norm1", 1e-6)
        joined = seen @ self[f"{name}.self_attn.in_proj_weight"].T + self[f"{name}.self_attn.in_proj_bias"]
        attended = self.attend(*np.split(joined, 3, axis=1), sizes.heads)
        x = x + self.linear(attended, f"{name}.self_attn.out_proj")
        inner = gelu(self.linear(self.norm(x, f"{name}.norm2", 1e-6), f"{name}.linear1"))
        return (x + self.linear(inner, f"{name}.linear2"))[0]

    def offsets(self, seen, heard, sizes):
        """[segments * moments, D] of both → [classes]."""
        line = [self["transformer.OFF_tok"][0]]
        line.append(self.norm(self.linear(seen, "vproj"), "transformer.vis_in_lnorm", 1e-5))
        line.append(self["transformer.MOD_tok"][0])
        line.append(self.norm(self.linear(heard, "aproj"), "transformer.aud_in_lnorm", 1e-5))
        x = np.concatenate(line) + self["transformer.pos_emb_cfg.pos_emb"][0]
        for block in (f"transformer.blocks.{number}" for number in range(sizes.depth)):
            y = self.norm(x, f"{block}.ln1", 1e-5)
            parts = (self.linear(y, f"{block}.attn.{name}") for name in ("query", "key", "value"))
            x = x + self.linear(self.attend(*parts, sizes.heads), f"{block}.attn.proj")
            y = self.norm(x, f"{block}.ln2", 1e-5)
            x = x + self.linear(gelu(self.linear(y, f"{block}.mlp.0")), f"{block}.mlp.2")
        return self.linear(self.norm(x, "transformer.ln_f", 1e-5)[0], "transformer.off_head")


def gelu(x: np.ndarray) -> np.ndarray:
    return torch.nn.functional.gelu(torch.from_numpy(x)).numpy()


def near(found: torch.Tensor, expected: np.ndarray) -> bool:
    assert found.shape == expected.shape and expected.std() > 0.1
    return np.abs(found.numpy() - expected).max() < 2e-4 * np.abs(expected).max()


def test_the_audio_encoder_computes_what_a_plain_statement_of_it_says():
    weights = part_of(random_weights(), "afeat_extractor.")
    encoder = AudioEncoder(TINY.audio)
    encoder.load_state_dict(weights)
    spectra = torch.randn(3, 20, 26, generator=torch.Generator().manual_seed(1))
    with torch.inference_mode():
        rows = encoder(spectra)
    plain = Plainly(weights)
    assert near(rows, np.stack([plain.audio(one, TINY.audio) for one in spectra.double().numpy()]))


def test_its_transformer_is_the_one_that_transformers_has(tmp_path):
    from safetensors.torch import save_file
    from transformers import ASTConfig, ASTModel

    weights = part_of(random_weights(), "afeat_extractor.")
    encoder = AudioEncoder(TINY.audio)
    encoder.load_state_dict(weights)
    ASTConfig(
        hidden_size=18, num_hidden_layers=2, num_attention_heads=3, intermediate_size=36, patch_size=6,
        frequency_stride=5, time_stride=5, num_mel_bins=20, max_length=26,
    ).save_pretrained(tmp_path)  # fmt: skip
    tensors = {f"audio_spectrogram_transformer.{name}": t for name, t in part_of(weights, "ast.").items()}
    save_file(tensors, tmp_path / "model.safetensors", metadata={"format": "pt"})
    other, told = ASTModel.from_pretrained(tmp_path, output_loading_info=True)
    assert not told["missing_keys"] and not told["unexpected_keys"]
    spectra = torch.randn(2, 20, 26, generator=torch.Generator().manual_seed(3))
    with torch.inference_mode():
        expected = other.eval()(spectra.transpose(1, 2)).last_hidden_state
        torch.testing.assert_close(encoder.ast(spectra), expected, rtol=1e-4, atol=1e-4)


def test_the_synchronisation_module_computes_what_a_plain_statement_of_it_says():
    weights = random_weights()
    model = AudioVisualModel(TINY)
    model.load_state_dict(weights)
    generator = torch.Generator().manual_seed(2)
    seen, heard = (torch.randn(2, 3, moments, width, generator=generator) for moments, width in ((2, 12), (5, 18)))
    with torch.inference_mode():
        logits = model(seen, heard)
    plain = Plainly(weights)
    flat = (part.double().numpy().reshape(2, -1, part.shape[3]) for part in (seen, heard))
    expected = np.stack([plain.offsets(one, two, TINY) for one, two in zip(*flat, strict=True)])
    assert logits.shape == (2, 7) and near(logits, expected)


def test_the_published_line_is_198_tokens_long():
    with torch.device("meta"):
        transformer = SyncTransformer(ModelSizes())
        logits = transformer(torch.empty(2, 112, 768), torch.empty(2, 84, 768))
    assert logits.shape == (2, 21) and ModelSizes().places == 198


def test_spectrograms_are_logarithms_of_power_in_mel_bands_normalised_as_ast_was_trained():
    from transformers.audio_utils import mel_filter_bank

    bands = mel_filter_bank(513, 128, 0, 8000, 16000, norm=None, mel_scale="htk").T
    np.testing.assert_allclose(mel_bands(128), bands, atol=1e-6)
    sound = 0.1 * np.random.default_rng(0).standard_normal(10240)
    mirrored = np.pad(sound, 512, mode="reflect")
    shape = np.zeros(1024)
    shape[312:712] = 0.5 - 0.5 * np.cos(2 * np.pi * np.arange(400) / 400)
    power = np.stack([np.abs(np.fft.rfft(mirrored[160 * row :][:1024] * shape)) ** 2 for row in range(65)], axis=1)
    expected = np.concatenate([np.log(bands @ power + 1e-6), np.zeros((128, 1))], axis=1)
    found = log_mel(torch.from_numpy(sound[None]).float())[0].numpy()
    assert found.shape == (128, 66)
    np.testing.assert_allclose(found, (expected + 4.2677393) / (2 * 4.5689974), atol=1e-3)


def whole_model(weights: dict[str, torch.Tensor], prefix: str = "") -> dict[str, torch.Tensor]:
    """The tensors as the published file has them, with the one that the authors leave out too."""
    unused = {"vfeat_extractor.patch_embed.proj.weight": torch.ones(12, 3, 4, 4)}
    return {prefix + name: tensor for name, tensor in (weights | unused).items()}


LAYOUTS = {
    "state dict": lambda weights: whole_model(weights),
    "checkpoint": lambda weights: {"model": whole_model(weights), "epoch": 60, "metrics": {"accuracy_1": 0.5}},
    "many devices": lambda weights: {"model": whole_model(weights, "module.")},
}


@pytest.mark.parametrize("layout", LAYOUTS)
def test_loading_picks_all_parts_of_a_whole_model(layout, tmp_path):
    weights = random_weights()
    torch.save(LAYOUTS[layout](weights), tmp_path / "model.pth")
    model = load_model(tmp_path / "model.pth", TINY)
    assert not model.training and not any(parameter.requires_grad for parameter in model.parameters())
    loaded = model.state_dict()
    assert set(loaded) == set(weights) and all(torch.equal(loaded[name], weights[name]) for name in weights)
    visual = load_encoder(tmp_path / "model.pth", TINY.visual).state_dict()
    assert all(torch.equal(tensor, weights[f"vfeat_extractor.{name}"]) for name, tensor in visual.items())


def test_a_model_of_full_size_loads_under_the_published_names(full_size, tmp_path, monkeypatch):
    one = torch.zeros(())
    content = {name: one.expand(shape) for name, shape in full_size.items()}  # as large as published, without its bytes
    monkeypatch.setattr("expotion_cli.vision.networks.read_tensors", lambda path, remedy: content)
    model = load_model(tmp_path / "synchformer_state_dict.pth")
    assert sum(tensor.numel() for tensor in model.state_dict().values()) == 236_869_653


def refused(tmp_path, content) -> str:
    path = tmp_path / "model.pth"
    torch.save(content, path)
    with pytest.raises(WeightsError) as caught:
        load_model(path, TINY, remedy="Fetch it again.")
    assert caught.value.path == path and caught.value.remedy == "Fetch it again."
    return str(caught.value)


def test_what_is_missing_foreign_or_of_another_shape_is_named_as_the_file_calls_it(tmp_path):
    weights = random_weights()
    for gone, shape in (("afeat_extractor.ast.layernorm.bias", "[18]"), ("vproj.weight", "[16, 12]"),
                        ("transformer.blocks.1.attn.key.bias", "[16]"), ("vfeat_extractor.temp_embed", "[1, 2, 12]"),
                        ("afeat_extractor.freq_attn_agg.cls_token", "[1, 1, 18]")):  # fmt: skip
        lacking = {name: tensor for name, tensor in weights.items() if name != gone}
        assert f"Missing tensors: '{gone}' {shape}" in refused(tmp_path, whole_model(lacking))
    said = refused(tmp_path, whole_model({n: t for n, t in weights.items() if n != "aproj.bias"}, "module."))
    assert "'module.aproj.bias' [16]" in said
    said = refused(tmp_path, whole_model(weights | {"transformer.sync_head.weight": torch.ones(2, 16)}))
    assert "another network: 'transformer.sync_head.weight'" in said
    said = refused(tmp_path, whole_model(weights | {"transformer.pos_emb_cfg.pos_emb": torch.ones(1, 9, 16)}))
    assert "'transformer.pos_emb_cfg.pos_emb' is [1, 9, 16], expected [1, 23, 16]" in said
    said = refused(tmp_path, whole_model(weights | {"transformer.off_head.bias": torch.full((7,), float("nan"))}))
    assert "'transformer.off_head.bias' holds NaN" in said


def test_a_file_with_the_encoders_alone_is_told_from_the_whole_model(tmp_path):
    visual = part_of(random_weights(), "vfeat_extractor.")
    for content in (visual, {"state_dict": {f"module.v_encoder.{name}": tensor for name, tensor in visual.items()}}):
        assert "no synchronisation model in this file" in refused(tmp_path, content)


def test_files_that_name_code_are_not_read(tmp_path):
    content = {"model": whole_model(random_weights()), "args": argparse.Namespace(lr=1)}
    assert "would run code" in refused(tmp_path, content)


def test_sizes_follow_from_one_another():
    assert (AudioSizes().moments, AudioSizes().heights) == (6, 12)
    assert dataclasses.replace(ModelSizes(), segments=7).places == 2 + 7 * (8 + 6)
