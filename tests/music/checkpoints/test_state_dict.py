"""A module gets all of its tensors or none; files that lie are named."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import nn

from expotion_cli.errors import WeightsError
from expotion_cli.music.checkpoints.huggingface import load_checkpoint
from expotion_cli.music.checkpoints.state_dict import Part, fill

CPU = torch.device("cpu")
FC1 = "decoder.model.decoder.layers.1.fc1.weight"
T5 = "text_encoder.encoder.block.1.layer.0.SelfAttention.k.weight"
LSTM = "audio_encoder.decoder.layers.1.lstm.bias_hh_l0"


def load(folder: Path):
    return load_checkpoint(folder, device=CPU, dtype=torch.float32)


@pytest.fixture
def folder(tiny_folder, tmp_path) -> Path:
    return Path(shutil.copytree(tiny_folder, tmp_path / "model"))


def change(folder: Path, edit: Callable[[dict[str, torch.Tensor]], Any]) -> None:
    tensors = load_file(folder / "model.safetensors")
    edit(tensors)
    save_file({name: tensor.contiguous() for name, tensor in tensors.items()}, folder / "model.safetensors")


def change_config(folder: Path, edit: Callable[[dict[str, Any]], Any]) -> None:
    values = json.loads((folder / "config.json").read_text())
    edit(values)
    (folder / "config.json").write_text(json.dumps(values))


@pytest.mark.parametrize("name", [FC1, T5, LSTM])
@pytest.mark.parametrize(
    ("damage", "wanted"),
    [
        (lambda t, name: t.pop(name), "is missing; its shape would be"),
        (lambda t, name: t.update({name: torch.zeros(3)}), r"has shape \[3\], expected \["),
        (lambda t, name: t[name].fill_(torch.nan), "holds NaN"),
        (lambda t, name: t[name].view(-1)[7:8].fill_(-torch.inf), "holds NaN or infinity"),
        (lambda t, name: t.update({name: t[name].int()}), "holds torch.int32, expected torch.float32"),
    ],
    ids=["missing", "shape", "NaN", "infinity", "kind"],
)
def test_damage_in_any_part_names_the_tensor_as_the_file_does(folder, name, damage, wanted):
    change(folder, lambda tensors: damage(tensors, name))
    with pytest.raises(WeightsError, match=f"The tensor '{name}' {wanted}") as caught:
        load(folder)
    assert str(folder / "model.safetensors") in str(caught.value) and caught.value.exit_code == 4


@pytest.mark.parametrize(
    "prefix", ["", "decoder.model.decoder.", "text_encoder.", "audio_encoder.", "enc_to_dec_proj."]
)
def test_an_extra_tensor_in_any_part_is_refused_by_its_name(folder, prefix):
    change(folder, lambda tensors: tensors.update({f"{prefix}surprise": torch.zeros(2)}))
    with pytest.raises(WeightsError, match=f"'{prefix}surprise'"):
        load(folder)


def test_a_value_that_does_not_fit_the_number_type_is_refused(folder):
    change(folder, lambda tensors: tensors[FC1].view(-1)[0].fill_(1e6))
    load(folder)
    with pytest.raises(WeightsError, match=f"'{FC1}' holds NaN or infinity in torch.float16"):
        load_checkpoint(folder, device=CPU, dtype=torch.float16)


@pytest.mark.parametrize("share", [0.0, 0.001, 0.5, 0.999])
def test_a_truncated_file_is_named(folder, share):
    path = folder / "model.safetensors"
    content = path.read_bytes()
    path.write_bytes(content[: int(share * len(content))])
    with pytest.raises(WeightsError, match="can't be read") as caught:
        load(folder)
    assert str(path) in str(caught.value)


@pytest.mark.parametrize(
    ("edit", "wanted"),
    [
        (lambda c: c.pop("decoder"), "lacks 'decoder'"),
        (lambda c: c["decoder"].pop("hidden_size"), "lacks 'hidden_size'"),
        (lambda c: c["text_encoder"].pop("d_model"), "lacks 'd_model'"),
        (lambda c: c.update(decoder=[1]), "of another form"),
        (lambda c: c["decoder"].update(hidden_size="wide"), "gives 'wide' as dim"),
        (lambda c: c["decoder"].update(num_hidden_layers=0), "gives 0 as num_layers"),
        (lambda c: c["decoder"].update(num_attention_heads=5), "5 heads don't share a width of 32"),
        (lambda c: c["decoder"].update(activation_function="relu"), "activations other than gelu"),
        (lambda c: c["decoder"].update(vocab_size=32), "speaks 32 tokens a codebook, its EnCodec has 64"),
        (lambda c: c["audio_encoder"].update(norm_type="none"), "settings of EnCodec"),
        (lambda c: c.pop("audio_encoder"), "has no audio_encoder in the config"),
    ],
)
def test_a_config_that_makes_no_sense_is_named(folder, edit, wanted):
    change_config(folder, edit)
    with pytest.raises(WeightsError, match=wanted) as caught:
        load(folder)
    assert str(folder) in str(caught.value)


def sharded(folder: Path) -> Path:
    """The folder with its weights in two shards."""
    tensors = load_file(folder / "model.safetensors")
    names = sorted(tensors)
    shards = {"model-1.safetensors": names[::2], "model-2.safetensors": names[1::2]}
    for file, chosen in shards.items():
        save_file({name: tensors[name] for name in chosen}, folder / file)
    index = {"weight_map": {name: file for file, chosen in shards.items() for name in chosen}}
    (folder / "model.safetensors.index.json").write_text(json.dumps(index))
    (folder / "model.safetensors").unlink()
    return folder


def test_shards_are_one_model(folder, tiny_folder):
    found, expected = load(sharded(folder)).decoder.state_dict(), load(tiny_folder).decoder.state_dict()
    assert all(torch.equal(found[name], expected[name]) for name in expected)


def test_shards_that_are_missing_repeat_or_lie_elsewhere_are_named(folder, tmp_path):
    sharded(folder)
    one, two = folder / "model-1.safetensors", folder / "model-2.safetensors"
    tensors = load_file(two)
    save_file(tensors | {"enc_to_dec_proj.bias": torch.zeros(32)}, two)
    with pytest.raises(WeightsError, match="enc_to_dec_proj.bias' stands in another shard"):
        load(folder)
    save_file(tensors, two)
    one.rename(tmp_path / one.name)
    with pytest.raises(WeightsError, match="model-1.safetensors"):
        load(folder)
    index = folder / "model.safetensors.index.json"
    index.write_text(index.read_text().replace("model-1.safetensors", "../model-1.safetensors"))
    with pytest.raises(WeightsError, match="outside its folder"):
        load(folder)
    index.write_text('{"weight_map": 3}')
    with pytest.raises(WeightsError, match="has no model.safetensors"):
        load(folder)


GOOD = {"0.weight": torch.ones(3, 2), "0.bias": torch.ones(3), "1.weight": torch.ones(3), "1.bias": torch.ones(3)}


@pytest.mark.parametrize(
    ("tensors", "said"),
    [
        ({name: tensor for name, tensor in GOOD.items() if name != "1.bias"}, "'1.bias' is missing"),
        (GOOD | {"1.bias": torch.ones(4)}, r"'1.bias' has shape \[4\]"),
        (GOOD | {"2.bias": torch.ones(4)}, "'2.bias' is not part"),
        (GOOD | {"1.bias": torch.tensor([1.0, torch.nan, 1.0])}, "'1.bias' holds NaN"),
        (GOOD | {"1.bias": torch.ones(3).to_sparse()}, "'1.bias' "),
    ],
    ids=["missing", "shape", "extra", "NaN", "sparse"],
)
def test_a_module_is_never_filled_in_part(tensors, said):
    module = nn.Sequential(nn.Linear(2, 3), nn.LayerNorm(3))
    before = {name: tensor.clone() for name, tensor in module.state_dict().items()}
    with pytest.raises(WeightsError, match=said):
        fill(module, Part(tensors, Path("weights")))
    assert all(torch.equal(tensor, before[name]) for name, tensor in module.state_dict().items())
    fill(module, Part(GOOD, Path("weights")))
    assert all(torch.equal(tensor, GOOD[name]) for name, tensor in module.state_dict().items())


def test_a_filled_module_owns_its_numbers():
    with torch.device("meta"):
        module = nn.Sequential(nn.Linear(2, 3), nn.LayerNorm(3))
    fill(module, Part(GOOD, Path("weights")), dtype=torch.bfloat16)
    assert {p.dtype for p in module.parameters()} == {torch.bfloat16} and not module[0].weight.is_meta
    fill(module, Part(GOOD, Path("weights")))
    module[0].weight.data.zero_()
    assert GOOD["0.weight"].all()


def test_no_weight_is_made_up_before_it_is_read(folder):
    """Random numbers for billions of weights would take longer than reading them, and memory as well."""
    change_config(folder, lambda config: config.pop("audio_encoder"))
    change(folder, lambda t: [t.pop(name) for name in list(t) if name.startswith("audio_encoder.")])
    before = torch.get_rng_state()
    load(folder)
    assert torch.equal(torch.get_rng_state(), before)
