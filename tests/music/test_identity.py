"""Which model it is, without loading it."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest

from expotion_cli.music.identity import ModelIdentity, recall, remember

DIMS = {"face": ("arousal", "valence"), "flow": ("energy",)}
IDENTITY = ModelIdentity(
    "tiny", "d" * 64, "c" * 64, "MIT", "expotion", None, ("face", "flow"), DIMS, True, "cpu", "float32"
)


@pytest.fixture
def folder(tmp_path):
    folder = tmp_path / "model"
    folder.mkdir()
    (folder / "config.json").write_text("{}")
    (folder / "model.safetensors").write_bytes(b"weights")
    return folder


def test_an_identity_is_recalled_for_the_arguments_it_was_remembered_for(folder):
    arguments = {"name": str(folder), "device": "auto", "dtype": "auto", "adapter": None, "soundfont": None}
    assert recall(arguments) is None
    remember(arguments, IDENTITY)
    assert recall(arguments) == IDENTITY
    assert recall({**arguments, "dtype": "bf16"}) is None and recall({**arguments, "device": "cuda"}) is None


def test_whatever_decides_the_model_makes_it_unknown(folder, tmp_path, monkeypatch):
    adapter, soundfont = tmp_path / "adapter", tmp_path / "font.sf2"
    adapter.mkdir()
    (adapter / "adapter_config.json").write_text("{}")
    soundfont.write_bytes(b"font")
    arguments = {"name": str(folder), "adapter": [str(adapter), "none"], "soundfont": soundfont}

    def known() -> bool:
        return recall(arguments) == IDENTITY

    for change in (
        lambda: (folder / "model.safetensors").write_bytes(b"other weights"),
        lambda: (folder / "model-2.safetensors").write_bytes(b"a file more"),
        lambda: (adapter / "adapter_config.json").write_text('{"r": 1}'),
        lambda: soundfont.write_bytes(b"another font"),
        lambda: monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "7"),
        lambda: monkeypatch.setattr("expotion_cli.music.identity._version", lambda name: "0"),
        lambda: monkeypatch.setattr("expotion_cli.music.identity._program_state", list),
    ):
        remember(arguments, IDENTITY)
        assert known()
        change()
        assert not known()


def test_a_damaged_note_is_no_identity_and_a_missing_model_has_none(folder, own_cache):
    arguments = {"name": str(folder), "adapter": None, "soundfont": None}
    remember(arguments, IDENTITY)
    (note,) = (own_cache / "models").glob("*.json")
    for text in ("", "[]", "{}", json.dumps({"name": 1})):
        note.write_text(text)
        assert recall(arguments) is None
    assert recall({"name": "no such model", "adapter": None, "soundfont": None}) is None
    remember({"name": "no such model", "adapter": None, "soundfont": None}, IDENTITY)  # and says nothing


def test_recalling_imports_no_torch(repository):
    code = (
        "import sys\n"
        "from expotion_cli.music.identity import recall\n"
        "assert recall({'name': 'expotion-mini', 'adapter': None, 'soundfont': None}) is None\n"
        "print(sorted({'torch', 'transformers', 'mediapipe', 'cv2', 'av'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=repository, check=True)
    assert done.stdout.strip() == "[]"
