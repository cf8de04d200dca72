"""CLAP and AST through transformers: small random weights in the real format, absent weights, broken ones."""

from __future__ import annotations

import json

import numpy as np
import pytest

from expotion_cli.errors import WeightsError
from expotion_cli.evaluation import measuring
from expotion_cli.evaluation.outputs import SAMPLE_RATE, Cue, MusicSet
from expotion_cli.evaluation.pretrained import AST, CLAP, Ast, Clap, WeightsSource
from expotion_cli.evaluation.set_measures import SetMeasures


@pytest.fixture(scope="module")
def weights(tmp_path_factory) -> WeightsSource:
    """A folder as a user would download it: one folder a model."""
    import torch
    from tokenizers import ByteLevelBPETokenizer
    from transformers import (
        ASTConfig,
        ASTFeatureExtractor,
        ASTForAudioClassification,
        ClapConfig,
        ClapFeatureExtractor,
        ClapModel,
        ClapProcessor,
        RobertaTokenizerFast,
    )

    folder = tmp_path_factory.mktemp("weights")
    torch.manual_seed(0)
    words = folder / "words"
    words.mkdir()
    bpe = ByteLevelBPETokenizer()
    special = ["<s>", "<pad>", "</s>", "<unk>", "<mask>"]
    bpe.train_from_iterator(["calm piano over warm strings", "fast drums"], vocab_size=300, special_tokens=special)
    bpe.save_model(str(words))
    tokenizer = RobertaTokenizerFast.from_pretrained(str(words))
    text = {"vocab_size": 300, "hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2,
            "intermediate_size": 16, "projection_dim": 8, "max_position_embeddings": 90}  # fmt: skip
    sound = {"depths": [1, 1], "num_attention_heads": [2, 2], "patch_embeds_hidden_size": 8, "hidden_size": 16,
             "projection_dim": 8, "num_hidden_layers": 2}  # fmt: skip
    clap = ClapModel(ClapConfig(text_config=text, audio_config=sound, projection_dim=8))
    clap.save_pretrained(folder / "clap-htsat-unfused")
    extractor = ClapFeatureExtractor(truncation="rand_trunc", padding="repeatpad")
    ClapProcessor(extractor, tokenizer).save_pretrained(folder / "clap-htsat-unfused")
    ast = ASTConfig(hidden_size=16, num_hidden_layers=1, num_attention_heads=2, intermediate_size=16,
                    num_labels=5, num_mel_bins=32, max_length=128)  # fmt: skip
    ASTForAudioClassification(ast).save_pretrained(folder / AST)
    ASTFeatureExtractor(num_mel_bins=32, max_length=128).save_pretrained(folder / AST)
    return WeightsSource(folder)


def cues(*pitches: float, prompt: bool = True) -> tuple[Cue, ...]:
    """A tone of 6 s for each pitch, with noise so that no two windows are alike."""
    time = np.arange(6 * SAMPLE_RATE) / SAMPLE_RATE
    rng = np.random.default_rng(0)
    made = []
    for number, pitch in enumerate(pitches):
        wave = 0.3 * np.sin(2 * np.pi * pitch * time) + 0.03 * rng.standard_normal(len(time))
        words = ("calm piano", "fast drums", "warm strings")[number % 3] if prompt else None
        made.append(Cue(f"clip-{number}", np.stack([wave, wave]).astype(np.float32), prompt=words))
    return tuple(made)


def test_clap_embeds_windows_and_words_in_one_space(weights):
    clap = Clap(weights)
    rows = clap.windows(np.random.default_rng(0).standard_normal((2, 11 * SAMPLE_RATE)).astype(np.float32))
    words = clap.words(["calm piano", "fast drums"])
    assert rows.shape == (3, 8) and words.shape == (2, 8)
    np.testing.assert_allclose(np.linalg.norm(np.concatenate([rows, words]), axis=1), 1)
    assert not np.allclose(words[0], words[1]) and clap.identity.startswith(f"{CLAP}, sha256 ")
    assert clap.windows(np.ones((2, 100), np.float32)).shape == (1, 8), "short sound is one window"


def test_ast_gives_a_distribution_over_its_classes_and_the_same_each_time(weights):
    noise = np.random.default_rng(1).standard_normal((2, 12 * SAMPLE_RATE)).astype(np.float32)
    ast = Ast(weights)
    labels = ast.labels(noise)
    assert labels.shape == (5,) and labels.sum() == pytest.approx(1)
    np.testing.assert_array_equal(labels, Ast(weights).labels(noise))


@pytest.mark.long
def test_all_figures_of_networks_are_measured_against_the_reference(weights):
    reference, other = MusicSet("theirs", cues(220, 330, 440, 550)), MusicSet("ours", cues(225, 3000, 8000, 9000))
    measures = SetMeasures(weights, 0, reference)
    found = measures.quality(other)
    assert found["fad"].value > 0 and found["fad"].chance is not None
    assert found["fad"].interval[0] <= found["fad"].interval[1]
    assert found["kl"].value > 0 and set(found["kl"].by_clip) == {"clip-0", "clip-1", "clip-2", "clip-3"}
    assert 1 <= found["inception"].value <= 4 and found["inception"].chance == 1.0
    text = measures.text([measuring.SoundFeatures(cue) for cue in other.cues])
    assert -1 <= text["clap"].value <= 1 and text["clap"].chance is not None and len(text["clap"].by_clip) == 4
    assert set(measures.networks) == {"clap", "ast"}
    itself = measures.quality(reference)
    assert "reference itself" in itself["fad"].missing and itself["inception"].value >= 1


def test_absent_weights_are_named_with_the_way_to_get_them(tmp_path, monkeypatch):
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path))
    measures = SetMeasures(WeightsSource(tmp_path), 0, MusicSet("theirs", cues(220, 330)))
    found = measures.quality(MusicSet("ours", cues(440, 550)))
    assert found["fad"].missing.startswith(f"needs {CLAP} (run: hf download {CLAP}")
    assert found["kl"].missing.startswith(f"needs {AST} (run:") and found["inception"].missing == found["kl"].missing
    assert found["spectrum"].value > 0, "what needs no weights is measured all the same"
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    with pytest.raises(WeightsError, match="HF_HUB_OFFLINE forbids"):
        Clap(WeightsSource(None, download=True))


def test_damaged_weights_are_told_apart_from_absent_ones(weights, tmp_path):
    import shutil

    folder = shutil.copytree(weights.folder / "clap-htsat-unfused", tmp_path / "clap")
    weights = folder / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:2000])
    with pytest.raises(WeightsError, match="can't be read"):
        Clap(WeightsSource(folder))
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(config | {"model_type": "other"}))
    with pytest.raises(WeightsError, match="needs"):
        Clap(WeightsSource(folder))


def test_weights_that_lack_a_part_are_refused_and_not_made_up(weights, tmp_path):
    import shutil

    from safetensors.numpy import load_file, save_file

    folder = shutil.copytree(weights.folder / AST, tmp_path / "ast")
    tensors = load_file(folder / "model.safetensors")
    del tensors["classifier.dense.weight"]
    save_file(tensors, folder / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(WeightsError, match="classifier.dense.weight is missing"):
        Ast(WeightsSource(folder))
