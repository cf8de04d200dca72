"""A tiny MusicGen made by audiocraft itself and exported as audiocraft does it."""

from __future__ import annotations

import contextlib
import logging
import os
import sys
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import pytest
import torch
from audiocraft_files import (
    CODEC_FILE,
    CODEC_SETTINGS,
    LM_FILE,
    LM_SETTINGS,
    MELODY_CHANGES,
    edited,
    for_sides,
    save_package,
    save_t5,
)

WORDS = "slow sad piano warm strings epic drums calm and a very long tail of other words".split()


@pytest.fixture(scope="session", autouse=True)
def audiocraft():
    """audiocraft; without it these tests are skipped, or fail where it has been promised."""
    logging.getLogger("xformers").setLevel(logging.ERROR)
    try:
        import audiocraft
        import audiocraft.models
    except ImportError as error:
        reason = f"audiocraft is not here ({error}); uv run --group audiocraft --extra test pytest tests/audiocraft"
        if os.environ.get("EXPOTION_REQUIRE_AUDIOCRAFT"):
            pytest.fail(reason)
        pytest.skip(reason)
    return audiocraft


@dataclass(frozen=True)
class Exported:
    """audiocraft's objects, and the folder they were exported to."""

    folder: Path
    lm: Any
    codec: Any


def write_text_encoder(folder: Path) -> None:
    """A tiny T5 with random weights and a unigram tokenizer, where audiocraft's files only name one."""
    from transformers import T5Config, T5EncoderModel, T5Tokenizer

    letters = "abcdefghijklmnopqrstuvwxyz,.-'0123456789"
    vocab = [("<pad>", 0.0), ("</s>", 0.0), ("<unk>", 0.0), ("▁", -2.0), *((letter, -3.0) for letter in letters)]
    vocab += [(f"▁{word}", -1.0) for word in WORDS]
    T5Tokenizer(vocab=vocab, extra_ids=0).save_pretrained(folder)
    sizes = {"d_model": 24, "d_kv": 8, "d_ff": 32, "num_layers": 2, "num_heads": 3, "dropout_rate": 0.0}
    save_t5(enlarged(T5EncoderModel(T5Config(vocab_size=len(vocab), **sizes))), folder)


def enlarged(module):
    """With weights large enough that every part matters."""
    with torch.no_grad():
        for parameter in module.parameters():
            if parameter.ndim == 2:
                parameter.normal_(std=2.0 * parameter.shape[1] ** -0.5)
    return module.eval()


@contextlib.contextmanager
def no_demucs():
    """audiocraft asks Demucs to take drums and bass out of melodies; here there is nothing to fetch and to run."""
    separator = SimpleNamespace(sources=["drums", "bass", "other", "vocals"], samplerate=44_100, audio_channels=2)
    separator.to = lambda device: separator
    demucs, pretrained = ModuleType("demucs"), ModuleType("demucs.pretrained")
    demucs.pretrained, pretrained.get_model = pretrained, lambda name: separator
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(sys.modules, "demucs", demucs)
        patch.setitem(sys.modules, "demucs.pretrained", pretrained)
        yield


def hear_everything(lm) -> None:
    """Melodies as they sound, as long as `MusicGen.get_pretrained` makes them."""
    conditioner = lm.condition_provider.conditioners["self_wav"]
    conditioner._get_stemmed_wav = lambda wav, sample_rate: wav
    conditioner.match_len_on_eval, conditioner._use_masking = True, False


def export(
    folder: Path, *, sides: int = 1, window_s: float = 30, efficient: bool = True, melody: bool = False
) -> Exported:
    """Make a model by audiocraft's builders, and export it."""
    from audiocraft.models import builders
    from audiocraft.modules.conditioners import T5Conditioner
    from omegaconf import OmegaConf

    torch.manual_seed(0)
    folder.mkdir(parents=True)
    text = folder / "t5-base"
    write_text_encoder(text)
    T5Conditioner.MODELS.append(str(text))
    T5Conditioner.MODELS_DIMS[str(text)] = 24
    changes = {"transformer_lm.memory_efficient": efficient, "dataset.segment_duration": window_s}
    settings = edited(LM_SETTINGS, for_sides(sides) | changes | (MELODY_CHANGES if melody else {}))
    here = {"device": "cpu", "conditioners.description.t5.name": str(text)}
    cfg = OmegaConf.create(edited(settings, here))
    with no_demucs() if melody else contextlib.nullcontext():
        lm = enlarged(builders.get_lm_model(cfg))
    lm.cfg = cfg
    if melody:
        hear_everything(lm)
    codec = builders.get_compression_model(OmegaConf.create(edited(CODEC_SETTINGS, {"device": "cpu"}))).eval()
    for layer in codec.quantizer.vq.layers:
        layer._codebook.inited.fill_(1)
        layer._codebook.embed.normal_()
    save_package(folder / LM_FILE, lm.state_dict(), settings)
    save_package(folder / CODEC_FILE, codec.state_dict(), CODEC_SETTINGS)
    return Exported(folder, lm, codec)


@pytest.fixture(scope="session")
def mono(audiocraft, tmp_path_factory) -> Exported:
    return export(tmp_path_factory.mktemp("mono") / "musicgen")


@pytest.fixture(scope="session")
def plain(audiocraft, tmp_path_factory) -> Exported:
    """With torch's own attention inside, which changes the tensors' names."""
    return export(tmp_path_factory.mktemp("plain") / "musicgen", efficient=False)


@pytest.fixture(scope="session")
def stereo(audiocraft, tmp_path_factory) -> Exported:
    return export(tmp_path_factory.mktemp("stereo") / "musicgen", sides=2)


@pytest.fixture(scope="session")
def melodic(audiocraft, tmp_path_factory) -> Exported:
    """MusicGen Melody."""
    return export(tmp_path_factory.mktemp("melodic") / "musicgen", melody=True)


@pytest.fixture(scope="session")
def melodic_stereo(audiocraft, tmp_path_factory) -> Exported:
    return export(tmp_path_factory.mktemp("melodic-stereo") / "musicgen", sides=2, melody=True)


@pytest.fixture(params=["mono", "stereo"])
def exported(request) -> Exported:
    return request.getfixturevalue(request.param)


@pytest.fixture(scope="session")
def short(audiocraft, tmp_path_factory) -> Exported:
    """Trained, so to speak, on windows of one second: two seconds are a long cue to it."""
    return export(tmp_path_factory.mktemp("short") / "musicgen", window_s=1)
