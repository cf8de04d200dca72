"""A model by name or by folder, down to audio."""

from __future__ import annotations

import json
import shutil
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest
import torch
from options import make_request, make_sampling

from expotion_cli.assets import shipped_folder
from expotion_cli.errors import UnknownNameError, UsageError, WeightsError
from expotion_cli.music.checkpoints.adapter_files import save_adapter
from expotion_cli.music.codecs.codec import Codec
from expotion_cli.music.load import load_model
from expotion_cli.music.transformer.adapter import AdapterConfig, JointEmbeddingAdapter, StreamSpec
from expotion_cli.timing import Tempo
from expotion_cli.weights import manifest

MINI = "expotion-mini"


@pytest.fixture(scope="module")
def adapter_folder(tmp_path_factory) -> Path:
    """An adapter for the tiny model, with open gates."""
    torch.manual_seed(1)
    adapter = JointEmbeddingAdapter(AdapterConfig(32, 3, 4, 20, (StreamSpec("pose", ("energy", "accent")),)))
    with torch.no_grad():
        adapter.gates.fill_(1.0)
    folder = tmp_path_factory.mktemp("adapter")
    save_adapter(folder, adapter, "tiny", torch.float32)
    return folder


@pytest.fixture(scope="module")
def mini():
    return load_model(MINI, device="cpu")


def compose(model, duration: Fraction, tempo=None, conditioning=None, **sampling) -> tuple[np.ndarray, object]:
    timeline = model.codec.timeline(duration, tempo)
    request = make_request("slow sad piano", timeline, conditioning, 1, make_sampling(**sampling))
    ((_, tokens),) = model.generate([request])
    return tokens, timeline


def test_a_transformers_folder_goes_from_prompt_to_audio_of_the_pictures_length(tiny_folder):
    model = load_model(str(tiny_folder), device="cpu")
    assert isinstance(model.codec, Codec) and model.codec.name == "encodec"
    assert model.streams == () and model.adapter is None and not model.codec.follows_tempo
    assert model.condition({}, model.codec.timeline(Fraction(1), None)) is None
    tokens, timeline = compose(model, Fraction(501, 1000))
    assert tokens.shape == (4, 26) and 0 <= tokens.min() and tokens.max() < 64
    rendering = model.codec.decode(tokens, timeline)
    assert rendering.sample_rate == 800
    assert rendering.audio.shape == (2, 401) and rendering.audio.dtype == np.float32
    assert np.array_equal(rendering.audio[0], rendering.audio[1])
    assert np.isfinite(rendering.audio).all() and rendering.audio.std() > 0


def test_a_plain_checkpoint_has_windows_as_long_as_its_training(tiny_folder):
    assert load_model(str(tiny_folder), device="cpu").engine.window == 30 * 50


def test_an_adapter_given_by_path_is_seen_with(tiny_folder, adapter_folder):
    blind = load_model(str(tiny_folder), device="cpu")
    model = load_model(str(tiny_folder), device="cpu", adapter=adapter_folder)
    assert model.streams == ("pose",) and model.engine.window == 20
    assert model.digest != blind.digest

    class Seen:
        dims, rate_hz, mask = ("accent", "energy"), 25.0, np.ones(30, bool)
        values = np.random.default_rng(0).random((30, 2)).astype(np.float32)

    conditioning = model.condition({"pose": Seen()}, model.codec.timeline(Fraction(1, 2), None))
    assert conditioning["pose"].values.shape == (25, 2)
    seeing, _ = compose(model, Fraction(1, 2), conditioning=conditioning, temperature=0)
    unseeing, _ = compose(model, Fraction(1, 2), temperature=0)
    assert not np.array_equal(seeing, unseeing)
    assert np.array_equal(unseeing[:, :10], compose(blind, Fraction(1, 2), temperature=0)[0][:, :10])


def test_an_unknown_model_names_the_nearest():
    with pytest.raises(UnknownNameError, match=f"Did you mean {MINI}"):
        load_model("expotion-mni", device="cpu")


@pytest.mark.parametrize(
    ("device", "said"), [("cuda:99", "No CUDA GPU|no GPU cuda:99"), ("abacus", "abacus"), ("cpu:-4", "cpu:-4")]
)
def test_a_device_that_is_not_there_is_a_usage_error_that_names_it(device, said):
    with pytest.raises(UsageError, match=said) as caught:
        load_model(MINI, device=device)
    assert caught.value.exit_code == 2


def test_a_number_type_that_does_not_exist_is_a_usage_error(tiny_folder):
    with pytest.raises(UsageError, match="fp7") as caught:
        load_model(str(tiny_folder), device="cpu", dtype="fp7")
    assert "bf16" in caught.value.remedy


def test_the_number_type_is_as_asked_and_a_small_model_takes_fp32_on_a_cpu(tiny_folder):
    for dtype, expected in (("fp32", torch.float32), ("bf16", torch.bfloat16), ("auto", torch.float32)):
        model = load_model(str(tiny_folder), device="cpu", dtype=dtype)
        assert model.dtype == expected and model.device.type == "cpu"


def test_the_digest_knows_the_number_type(tiny_folder):
    digests = {load_model(str(tiny_folder), device="cpu", dtype=dtype).digest for dtype in ("fp32", "bf16", "auto")}
    assert len(digests) == 2


def test_a_soundfont_for_a_model_without_notes_is_a_usage_error(tiny_folder):
    with pytest.raises(UsageError, match="soundfont"):
        load_model(str(tiny_folder), device="cpu", soundfont=Path("any.sf2"))


def test_a_folder_that_is_no_model_is_named(tmp_path):
    with pytest.raises(WeightsError, match="config.json") as caught:
        load_model(str(tmp_path), device="cpu")
    assert str(tmp_path) in str(caught.value) and caught.value.exit_code == 4


def test_a_config_without_a_codec_is_named(tiny_folder, tmp_path):
    from safetensors.torch import load, save

    folder = shutil.copytree(tiny_folder, tmp_path / "mute")
    config = json.loads((folder / "config.json").read_text())
    del config["audio_encoder"]
    (folder / "config.json").write_text(json.dumps(config))
    content = load((folder / "model.safetensors").read_bytes())
    kept = {name: tensor for name, tensor in content.items() if not name.startswith("audio_encoder.")}
    (folder / "model.safetensors").write_bytes(save(kept, {"format": "pt"}))
    with pytest.raises(WeightsError, match="names no codec"):
        load_model(str(folder), device="cpu")


def test_the_shipped_model_composes_notes_and_its_audio_is_as_long_as_the_picture(mini):
    assert mini.codec.name == "notes" and mini.codec.follows_tempo
    assert mini.decoder.config.num_codebooks == mini.codec.num_codebooks == 8
    assert set(mini.streams) == {"pose", "face", "flow"} and "own" in mini.adapter_name and "MIT" in mini.licence
    tempo = Tempo(Fraction(120), Fraction(0), 0.0)
    tokens, timeline = compose(mini, Fraction(3), tempo, mini.condition({}, mini.codec.timeline(Fraction(3), tempo)))
    assert tokens.shape == (8, timeline.num_steps)
    rendering = mini.codec.decode(tokens, timeline)
    assert rendering.audio.shape == (2, 3 * rendering.sample_rate) and rendering.midi[:4] == b"MThd"


def test_the_shipped_models_digest_changes_with_the_adapter(mini, tmp_path):
    without = load_model(MINI, device="cpu", adapter="none")
    assert without.adapter is None and without.streams == () and without.adapter_name is None
    folder = tmp_path / "other"
    changed = JointEmbeddingAdapter(mini.adapter.config)
    save_adapter(folder, changed, MINI, torch.float16)
    other = load_model(MINI, device="cpu", adapter=folder)
    assert other.adapter_name == str(folder)
    assert len({mini.digest, without.digest, other.digest}) == 3


def test_a_damaged_file_of_the_shipped_model_is_found_before_anything_is_loaded(tmp_path, monkeypatch):
    shipped = shipped_folder("models")
    models = tmp_path / "models"
    shutil.copytree(shipped / MINI, models / MINI)
    shutil.copy(shipped / f"{MINI}.toml", models)
    monkeypatch.setattr(manifest, "shipped_folder", lambda name: models)
    monkeypatch.setattr("expotion_cli.music.load.load_checkpoint", lambda *a, **k: pytest.fail("it was loaded"))
    path = models / MINI / "adapter" / "adapter_model.safetensors"
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 0xFF
    path.write_bytes(content)
    with pytest.raises(WeightsError, match="damaged") as caught:
        load_model(MINI, device="cpu")
    assert str(path) in str(caught.value) and caught.value.exit_code == 4
    path.unlink()
    with pytest.raises(WeightsError, match="missing"):
        load_model(MINI, device="cpu")


def test_a_folder_in_the_way_does_not_hide_the_shipped_model(tmp_path, monkeypatch):
    (tmp_path / MINI).mkdir()
    monkeypatch.chdir(tmp_path)
    assert load_model(MINI, device="cpu").codec.name == "notes"
