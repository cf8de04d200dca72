"""PEFT's LoRA, merged into the decoder: alone, several, and together with the joint-embedding adapter."""

from __future__ import annotations

import copy
import json
import shutil
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from options import make_request, make_sampling
from peft import LoraConfig, get_peft_model
from safetensors.torch import load_file, save_file

from expotion_cli.errors import UsageError, WeightsError
from expotion_cli.music.checkpoints.adapter_files import save_adapter
from expotion_cli.music.checkpoints.huggingface import load_checkpoint
from expotion_cli.music.checkpoints.lora import merge_lora
from expotion_cli.music.load import load_model
from expotion_cli.music.transformer.adapter import AdapterConfig, JointEmbeddingAdapter, StreamSpec
from expotion_cli.music.transformer.context import LockstepContext
from expotion_cli.music.transformer.delay import apply_delay

CPU = torch.device("cpu")
ATTENTION = ["q_proj", "k_proj", "v_proj", "out_proj"]
WEIGHTS, CONFIG = "adapter_model.safetensors", "adapter_config.json"
KEY = "base_model.model.decoder.model.decoder.layers.{}.lora_{}.weight"


def trained(base: torch.nn.Module, folder: Path, seed: int = 0, **settings: Any) -> torch.nn.Module:
    """A LoRA on a copy of `base`, as if trained; saved by PEFT, returned as PEFT's model."""
    values = {"r": 4, "lora_alpha": 12, "target_modules": ATTENTION} | settings
    # MusicGen's T5 and EnCodec have modules of other names, so that these find the decoder's alone.
    model = get_peft_model(copy.deepcopy(base), LoraConfig(**values)).eval()
    torch.manual_seed(seed)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if ".lora_" in name:
                parameter.normal_(std=0.15)
    model.save_pretrained(folder)
    return model


@pytest.fixture(scope="module")
def lora(tiny, tmp_path_factory) -> tuple[Path, torch.nn.Module]:
    folder = tmp_path_factory.mktemp("lora")
    return folder, trained(tiny, folder)


@pytest.fixture
def own_lora(lora, tmp_path) -> Path:
    return Path(shutil.copytree(lora[0], tmp_path / "lora"))


@pytest.fixture
def checkpoint(tiny_folder):
    return load_checkpoint(tiny_folder, device=CPU, dtype=torch.float32)


def logits_of(checkpoint) -> torch.Tensor:
    ids, mask, tokens = inputs(checkpoint)
    with torch.no_grad():
        text = checkpoint.decoder.encode_text(checkpoint.text(ids, mask), mask)
        return checkpoint.decoder(tokens, LockstepContext(text)).reshape(8, 20, 64)


def inputs(checkpoint) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    ids, mask = checkpoint.text.pad([checkpoint.text.tokenize(p) for p in ("slow sad piano", "fast epic strings")], 24)
    torch.manual_seed(1)
    return ids, mask, apply_delay(torch.randint(0, 64, (2, 4, 20)), 64)[:, :, :20]


def theirs(model: torch.nn.Module, checkpoint) -> torch.Tensor:
    ids, mask, tokens = inputs(checkpoint)
    with torch.no_grad():
        return model(input_ids=ids, attention_mask=mask.long(), decoder_input_ids=tokens.reshape(8, 20)).logits


@pytest.mark.parametrize(
    "settings",
    [
        {},
        {"target_modules": [*ATTENTION, "fc1", "fc2"], "r": 7},
        {"target_modules": ["q_proj"], "use_rslora": True},
        {"target_modules": ["v_proj", "fc1"], "rank_pattern": {"fc1": 2}, "alpha_pattern": {"layers.1.fc1": 40}},
        {"target_modules": r".*decoder\.layers\.\d+\.self_attn\.(q|v)_proj"},
        {"target_modules": ["q_proj"], "layers_to_transform": [2], "lora_dropout": 0.3},
        {"target_modules": ["q_proj"], "init_lora_weights": "gaussian"},
    ],
    ids=["attention", "and feed-forward", "rslora", "patterns", "a regular expression", "one layer", "gaussian"],
)
def test_merged_logits_equal_transformers_with_peft(tiny, checkpoint, tmp_path, settings):
    plain = logits_of(checkpoint)
    model = trained(tiny, tmp_path, **settings)
    merge_lora(tmp_path, checkpoint.decoder)
    expected = theirs(model, checkpoint)
    assert (logits_of(checkpoint) - expected).abs().max() <= 1e-4
    assert (plain - expected).abs().max() > 1e-2
    assert not any(parameter.requires_grad for parameter in checkpoint.decoder.parameters())


def test_trained_on_our_decoder_or_on_transformers_decoder_alone_it_is_the_same(tiny, tiny_folder, tmp_path):
    found = []
    for name, base in (("whole", tiny), ("theirs", tiny.decoder), ("inner", tiny.decoder.model)):
        trained(base, tmp_path / name)
        found.append(load_checkpoint(tiny_folder, device=CPU, dtype=torch.float32))
        merge_lora(tmp_path / name, found[-1].decoder)
    ours = load_checkpoint(tiny_folder, device=CPU, dtype=torch.float32)
    trained(ours.decoder, tmp_path / "ours")
    # The same tensors under our decoder's names.
    whole = load_file(tmp_path / "whole" / WEIGHTS)
    renamed = {name.replace("decoder.model.decoder.", ""): tensor for name, tensor in whole.items()}
    assert renamed.keys() == load_file(tmp_path / "ours" / WEIGHTS).keys()
    save_file(renamed, tmp_path / "ours" / WEIGHTS)
    merge_lora(tmp_path / "ours", ours.decoder)
    expected = logits_of(found[0])
    assert all(torch.equal(logits_of(one), expected) for one in (*found, ours))


def test_two_add_up_whatever_their_order(tiny, tiny_folder, lora, tmp_path):
    trained(tiny, tmp_path, seed=5, target_modules=["fc1", "v_proj"])
    heard = []
    for order in ((lora[0], tmp_path), (tmp_path, lora[0])):
        one = load_checkpoint(tiny_folder, device=CPU, dtype=torch.float32)
        for folder in order:
            merge_lora(folder, one.decoder)
        heard.append(logits_of(one))
    assert (heard[0] - heard[1]).abs().max() <= 1e-4
    reference = copy.deepcopy(lora[1]).merge_and_unload()
    second = trained(reference, tmp_path / "again", seed=5, target_modules=["fc1", "v_proj"])
    assert (heard[0] - theirs(second, one)).abs().max() <= 1e-4


# Through `load_model`, as `--adapter` does it.


class Seen:
    dims, rate_hz, mask = ("accent", "energy"), 25.0, np.ones(30, bool)
    values = np.random.default_rng(0).random((30, 2)).astype(np.float32)


@pytest.fixture(scope="module")
def eyes(tmp_path_factory) -> Path:
    """A joint-embedding adapter for the tiny model, its gates open."""
    torch.manual_seed(1)
    adapter = JointEmbeddingAdapter(AdapterConfig(32, 3, 4, 20, (StreamSpec("pose", ("energy", "accent")),)))
    with torch.no_grad():
        adapter.gates.fill_(1.0)
    folder = tmp_path_factory.mktemp("eyes")
    save_adapter(folder, adapter, "tiny", torch.float32)
    return folder


@pytest.fixture(scope="module")
def merged_folder(lora, tiny_folder, tmp_path_factory) -> Path:
    """The tiny model with the LoRA merged by PEFT, as a model folder of its own."""
    folder = tmp_path_factory.mktemp("merged")
    copy.deepcopy(lora[1]).merge_and_unload().save_pretrained(folder)
    shutil.copy(tiny_folder / "tokenizer.json", folder)
    return folder


def greedy(model) -> np.ndarray:
    timeline = model.codec.timeline(Fraction(1, 2), None)
    conditioning = model.condition({"pose": Seen()}, timeline)
    ((_, tokens),) = model.generate(
        [make_request("slow sad piano", timeline, conditioning, 0, make_sampling(temperature=0))]
    )
    return tokens


def test_with_the_joint_embedding_adapter_it_equals_a_merged_model_with_that_adapter(
    tiny_folder, lora, eyes, merged_folder
):
    expected = greedy(load_model(str(merged_folder), device="cpu", adapter=eyes))
    found = []
    for given in ([eyes, lora[0]], [str(lora[0]), str(eyes)]):
        model = load_model(str(tiny_folder), device="cpu", adapter=given)
        assert model.streams == ("pose",) and model.adapter_name == f"{eyes} + {lora[0]}"
        found.append(greedy(model))
    assert np.array_equal(found[0], expected) and np.array_equal(found[1], expected)
    for other in (eyes, lora[0], None):
        assert not np.array_equal(greedy(load_model(str(tiny_folder), device="cpu", adapter=other)), expected)


def test_alone_it_equals_a_merged_model(tiny_folder, lora, merged_folder):
    model = load_model(str(tiny_folder), device="cpu", adapter=lora[0])
    assert model.adapter is None and model.streams == () and model.adapter_name == str(lora[0])
    assert np.array_equal(greedy(model), greedy(load_model(str(merged_folder), device="cpu")))


def test_the_digest_knows_each_adapter(tiny_folder, lora, eyes, tmp_path, tiny):
    trained(tiny, tmp_path, seed=9)
    choices = (None, eyes, lora[0], tmp_path, [eyes, lora[0]], [eyes, tmp_path], [lora[0], tmp_path])
    digests = {load_model(str(tiny_folder), device="cpu", adapter=chosen).digest for chosen in choices}
    assert len(digests) == len(choices)


def test_two_that_see_exclude_each_other_and_so_do_one_and_none(tiny_folder, lora, eyes):
    for given in ([eyes, eyes], [eyes, "none"], ["none", lora[0], eyes]):
        with pytest.raises(UsageError, match="exclude each other"):
            load_model(str(tiny_folder), device="cpu", adapter=given)


def test_the_shipped_models_own_adapter_stays_beside_a_lora_and_none_takes_it_away(tmp_path):
    mini = load_model("expotion-mini", device="cpu", adapter="none")
    dim = mini.decoder.config.dim
    key = "base_model.model.layers.0.self_attn.q_proj.lora_{}.weight"
    save_file({key.format("A"): torch.ones(2, dim), key.format("B"): torch.ones(dim, 2)}, tmp_path / WEIGHTS)
    (tmp_path / CONFIG).write_text(json.dumps({"peft_type": "LORA", "r": 2, "lora_alpha": 1}))
    both = load_model("expotion-mini", device="cpu", adapter=tmp_path)
    assert both.adapter is not None and both.adapter_name == f"expotion-mini (its own) + {tmp_path}"
    blind = load_model("expotion-mini", device="cpu", adapter=["none", tmp_path])
    assert blind.adapter is None and blind.adapter_name == str(tmp_path)


@pytest.mark.parametrize(
    ("damage", "wanted"),
    [
        (lambda t: t.pop(KEY.format("0.self_attn.q_proj", "B")), r"q_proj\.lora_B\.weight' is missing"),
        (
            lambda t: t.update({"base_model.model.surprise": torch.zeros(1)}),
            "'base_model.model.surprise' adapts nothing",
        ),
        (lambda t: t.update({KEY.format("7.fc1", "A"): torch.zeros(4, 32)}), r"layers\.7\.fc1\.lora_A.*adapts nothing"),
        (
            lambda t: t.update({KEY.format("0.self_attn.q_proj", "A"): torch.zeros(3, 32)}),
            r"q_proj\.lora_A\.weight' has shape \[3, 32\], expected \[4, 32\] \(rank 4 on 32 → 32\)",
        ),
        (
            lambda t: t.update({KEY.format("1.encoder_attn.v_proj", "B"): torch.zeros(64, 4)}),
            r"v_proj\.lora_B\.weight' has shape \[64, 4\], expected \[32, 4\]",
        ),
        (lambda t: t[KEY.format("2.self_attn.k_proj", "A")].fill_(torch.nan), r"k_proj\.lora_A\.weight' holds NaN"),
        (lambda t: t.clear(), "holds no tensors"),
    ],
)
def test_a_damaged_lora_names_the_tensor_and_leaves_the_decoder_alone(checkpoint, own_lora, damage, wanted):
    tensors = load_file(own_lora / WEIGHTS)
    damage(tensors)
    save_file(tensors, own_lora / WEIGHTS)
    before = {name: tensor.clone() for name, tensor in checkpoint.decoder.state_dict().items()}
    with pytest.raises(WeightsError, match=wanted) as caught:
        merge_lora(own_lora, checkpoint.decoder)
    assert str(own_lora / WEIGHTS) in str(caught.value) and caught.value.exit_code == 4
    after = checkpoint.decoder.state_dict()
    assert after.keys() == before.keys() and all(torch.equal(after[name], before[name]) for name in before)


def test_a_lora_for_another_base_is_refused_by_the_first_tensor_that_does_not_fit(make_tiny, checkpoint, tmp_path):
    class Llama(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.model = torch.nn.ModuleDict({"layers": torch.nn.ModuleList([torch.nn.ModuleDict(
                {"self_attn": torch.nn.ModuleDict({"q_proj": torch.nn.Linear(32, 32)})})])})  # fmt: skip

    trained(Llama(), tmp_path / "llama", target_modules=["q_proj"])
    with pytest.raises(WeightsError, match=r"model\.layers\.0\.self_attn\.q_proj.*adapts nothing that this decoder"):
        merge_lora(tmp_path / "llama", checkpoint.decoder)
    trained(make_tiny().text_encoder, tmp_path / "t5", target_modules=["q"])
    with pytest.raises(WeightsError, match="adapts nothing"):
        merge_lora(tmp_path / "t5", checkpoint.decoder)


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("use_dora", True),
        ("modules_to_save", ["lm_heads"]),
        ("bias", "lora_only"),
        ("lora_bias", True),
        ("layer_replication", [[0, 2]]),
        ("megatron_config", {"a": 1}),
        ("init_lora_weights", "pissa"),
    ],
)
def test_more_than_plain_lora_is_refused_by_its_setting(checkpoint, own_lora, key, value):
    values = json.loads((own_lora / CONFIG).read_text())
    (own_lora / CONFIG).write_text(json.dumps(values | {key: value}))
    with pytest.raises(WeightsError, match=f"The setting {key} is ") as caught:
        merge_lora(own_lora, checkpoint.decoder)
    assert str(own_lora / CONFIG) in str(caught.value) and "merge_and_unload" in caught.value.remedy


@pytest.mark.parametrize(
    "change", [{"r": None}, {"lora_alpha": "much"}, {"rank_pattern": [1]}, {"alpha_pattern": {"(": 1}}]
)
def test_a_config_that_makes_no_sense_is_named(checkpoint, own_lora, change):
    values = json.loads((own_lora / CONFIG).read_text())
    (own_lora / CONFIG).write_text(json.dumps(values | change))
    with pytest.raises(WeightsError, match="adapter_config.json"):
        merge_lora(own_lora, checkpoint.decoder)


def test_an_adapter_of_another_kind_is_refused_by_name(tiny_folder, own_lora):
    values = json.loads((own_lora / CONFIG).read_text())
    (own_lora / CONFIG).write_text(json.dumps(values | {"peft_type": "IA3"}))
    with pytest.raises(WeightsError, match="of type 'IA3'"):
        load_model(str(tiny_folder), device="cpu", adapter=own_lora)


def test_a_folder_without_weights_is_named(checkpoint, own_lora):
    (own_lora / WEIGHTS).unlink()
    with pytest.raises(WeightsError, match=WEIGHTS):
        merge_lora(own_lora, checkpoint.decoder)
    (own_lora / WEIGHTS).write_bytes(b"short")
    with pytest.raises(WeightsError, match=WEIGHTS):
        merge_lora(own_lora, checkpoint.decoder)
