"""The commands of README's section "Models", as typed; only the models are tiny ones."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

import numpy as np
import pytest
from audiocraft_files import save_audiocraft
from tiny_melody import save_tiny_melody, tiny_musicgen_melody, tune
from tiny_music import save_tiny, tiny_musicgen, write_wav

from expotion_cli.scoring.sidecar import read_sidecar

LAYERS, DIM, WINDOW, RANK = 2, 32, 100, 6


def save_adapter(path: Path) -> None:
    """An adapter in the authors' layout that reads `raft`."""
    import torch

    torch.manual_seed(0)
    tensors = {"pos_emb": torch.randn(LAYERS + 1, WINDOW + 1, DIM), "gates": torch.rand(LAYERS) + 0.5}
    tensors |= {f"merge_linear.{i}.weight": torch.randn(DIM, RANK) for i in range(LAYERS)}
    torch.save(tensors | {"ld_proj.weight": torch.randn(RANK, 256) / 16}, path)


def save_lora(model, folder: Path) -> None:
    from peft import LoraConfig, get_peft_model

    get_peft_model(model, LoraConfig(r=2, target_modules=["q_proj", "v_proj"])).save_pretrained(folder)


@pytest.fixture
def here(tmp_path, monkeypatch, make_video) -> Path:
    """A folder with all that the commands name."""
    monkeypatch.chdir(tmp_path)
    make_video(tmp_path / "clips" / "one.mp4", duration_s=1.5)
    save_tiny_melody(tmp_path / "musicgen-melody", tiny_musicgen_melody(rate=8000))
    write_wav(tmp_path / "tune.wav", tune(3.0), 32_000)
    for name in ("musicgen-small", "my-finetune"):
        save_tiny(tmp_path / name, num_codebooks=4)
    tokenizer = tmp_path / "musicgen-small" / "tokenizer.json"
    save_audiocraft(tiny_musicgen(num_codebooks=4), tokenizer, tmp_path / "audiocraft-files")
    save_lora(tiny_musicgen(num_codebooks=4), tmp_path / "my-lora")
    save_adapter(tmp_path / "motion.pth")
    # What lies here is taken where no model of that name is known.
    monkeypatch.setattr("expotion_cli.music.load.read_manifests", dict)
    return tmp_path


@pytest.mark.long
def test_the_models_that_readme_shows_are_used_as_typed(expotion, repository, here):
    section = (repository / "README.md").read_text(encoding="utf-8").partition("\n## Models\n")[2].partition("\n## ")[0]
    assert section.count("\n") <= 40, "a screenful"
    lines = [
        shlex.split(line, comments=True) for line in re.findall(r"```sh\n(.*?)```", section, re.DOTALL)[0].splitlines()
    ]
    assert lines[0][:2] == ["expotion", "fetch"] and lines[-1][-1] == "ace-step-1.5-xl-turbo", "tests of their own"
    sounds = []
    for number, (command, *arguments) in enumerate(lines[1:-1]):
        assert command == "expotion-score"
        more = ("--device", "cpu", "--takes", 1, "--lufs", -40, "--seed", 1, "--out", f"out{number}")
        done = expotion("score", *arguments, *more)
        assert done.exit_code == 0, (arguments, done.stderr)
        sidecar = read_sidecar(here / f"out{number}" / "one.mp4")
        sounds.append(sidecar["output"]["sha256"])
        assert sidecar["model"]["name"] == arguments[arguments.index("--model") + 1]
    assert len(lines) == 9 and len(np.unique(sounds)) > 4
