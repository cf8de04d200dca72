"""What the music follows, from the flag to the sound: MusicGen, a released adapter, features computed elsewhere."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path

import numpy as np
import pytest

from expotion_cli.cli import flags
from expotion_cli.demo import DEMO_CLIPS, write_demo_clips
from expotion_cli.errors import UsageError
from expotion_cli.media.sound import read_clip_sound

DIM, LAYERS, WINDOW, RANK = 32, 2, 24, 6


@pytest.fixture(scope="module")
def models(tmp_path_factory) -> Path:
    """A folder with a tiny MusicGen of random weights (`model`) and an adapter on `synchformer` (`motion.pth`)."""
    import torch
    from transformers import MusicgenConfig, MusicgenForConditionalGeneration

    from expotion_cli.music.transformer.text import train_tokenizer

    folder = tmp_path_factory.mktemp("models")
    torch.manual_seed(0)
    config = MusicgenConfig(
        text_encoder={"model_type": "t5", "vocab_size": 300, "d_model": 24, "d_kv": 8, "d_ff": 32, "num_layers": 1,
                      "num_heads": 2, "dropout_rate": 0.0},
        audio_encoder={"model_type": "encodec", "sampling_rate": 8000, "upsampling_ratios": [8, 20], "num_filters": 4,
                       "hidden_size": 8, "codebook_dim": 8, "codebook_size": 64, "num_lstm_layers": 1,
                       "audio_channels": 1, "target_bandwidths": [0.6], "norm_type": "weight_norm", "normalize": False,
                       "use_causal_conv": False, "num_residual_layers": 1, "compress": 2, "kernel_size": 3,
                       "last_kernel_size": 3},
        decoder={"model_type": "musicgen_decoder", "vocab_size": 64, "hidden_size": DIM, "num_hidden_layers": LAYERS,
                 "num_attention_heads": 2, "ffn_dim": 64, "num_codebooks": 2, "audio_channels": 1, "dropout": 0.0,
                 "pad_token_id": 64, "bos_token_id": 64, "max_position_embeddings": 512},
    )  # fmt: skip
    model = MusicgenForConditionalGeneration(config).eval()
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if parameter.ndim == 2 and not name.startswith("audio_encoder"):
                parameter.normal_(std=2.0 * parameter.shape[1] ** -0.5)
        for layer in model.audio_encoder.quantizer.layers:
            layer.codebook.embed.normal_(std=1.0)
    model.generation_config.decoder_start_token_id = model.generation_config.pad_token_id = 64
    model.save_pretrained(folder / "model")
    train_tokenizer(["slow sad piano", "fast epic strings"], folder / "model" / "tokenizer.json", 290)
    tensors = {"pos_emb": torch.randn(LAYERS + 1, WINDOW + 1, DIM), "gates": torch.rand(LAYERS) + 0.5}
    tensors |= {f"merge_linear.{i}.weight": torch.randn(DIM, RANK) for i in range(LAYERS)}
    torch.save(tensors | {"ld_proj.weight": torch.randn(RANK, 768) * 768**-0.5}, folder / "motion.pth")
    return folder


def features(folder: Path, seed: int, *, names=("one",), rows: int = 10, width: int = 768, kind=np.float16) -> Path:
    """A folder of features at 5 Hz for clips of 2 seconds."""
    folder.mkdir(parents=True, exist_ok=True)
    for name in names:
        np.save(folder / f"{name}.npy", (3 * np.random.default_rng(seed).standard_normal((rows, width))).astype(kind))
    return folder


@pytest.fixture
def clips(tmp_path, make_video) -> Path:
    make_video(tmp_path / "clips" / "one.mp4", duration_s=2.0)
    make_video(tmp_path / "clips" / "two.mp4", duration_s=2.0, hue=90, sound=False)
    return tmp_path / "clips"


@pytest.fixture
def score(expotion, models, tmp_path):
    """Scores with the tiny model and its adapter; the result also has `sidecar(name)` and `sound(name)`."""

    def run(clips: Path, *options, out: str = "out", adapter: bool = True):
        eyes = ("--adapter", models / "motion.pth") if adapter else ()
        # The adapter alone follows.
        model = ("--model", models / "model", "--device", "cpu", *eyes, "--visual-guidance", 2, "--follow", "none")
        done = expotion("score", clips, *model, *options, "--seed", 1, "--out", tmp_path / out)
        done.sidecar = lambda name: json.loads((tmp_path / out / f"{name}.score.json").read_text())
        done.sound = lambda name: read_clip_sound(tmp_path / out / f"{name}.mp4", 8000)
        return done

    return run


@pytest.mark.long
def test_the_music_follows_features_computed_elsewhere_and_the_sidecar_says_whose(score, clips, tmp_path):
    first = features(tmp_path / "first", 0)
    done = score(clips, "--streams", f"synchformer={first}")
    assert done.exit_code == 1, "one clip has no features"
    assert "two.mp4: there are no synchformer features" in done.stderr and str(first / "two.pt") in done.stderr
    (stream,) = done.sidecar("one")["streams"]
    assert (stream["name"], stream["encoder"], stream["rate_hz"]) == ("synchformer", "precomputed", 5.0)
    assert stream["file"] == str(first / "one.npy") and not done.sidecar("one")["notes"]
    moved = first.rename(tmp_path / "moved")
    again = score(clips / "one.mp4", "--streams", f"synchformer={moved}@5", out="again")
    assert again.exit_code == 0 and np.array_equal(again.sound("one"), done.sound("one"))
    assert again.sidecar("one")["artefact"] == done.sidecar("one")["artefact"], "the place decides nothing"
    other = score(clips / "one.mp4", "--streams", f"synchformer={features(tmp_path / 'b', 1)}", out="other")
    assert other.exit_code == 0 and not np.array_equal(other.sound("one"), done.sound("one"))


@pytest.mark.long
def test_a_reference_is_recorded_and_checked_with_features(expotion, models, clips, tmp_path, monkeypatch):
    folder = features(tmp_path / "features", 0, names=("one", "two"))
    monkeypatch.chdir(tmp_path)
    model = ("--model", models / "model", "--adapter", models / "motion.pth", "--device", "cpu")
    done = expotion("regress", "record", "clips", *model, "--streams", "synchformer=features", "--to", "reference")
    assert done.exit_code == 0, done.stderr
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path / "elsewhere")
    done = expotion("regress", "check", tmp_path / "reference")
    assert done.exit_code == 0 and "2 same" in done.stdout, done.stdout + done.stderr
    features(folder, 1, names=("two",))
    done = expotion("regress", "check", tmp_path / "reference")
    assert done.exit_code == 1 and "1 drift" in done.stdout and "two.mp4: drift\n  synchformer" in done.stdout


@pytest.mark.parametrize(
    ("made", "flag", "said"),
    [
        ({"width": 512}, "", "512 numbers a row, the adapter reads 768 of synchformer"),
        ({"rows": 50}, "", "50 rows; at 5 a second 10 belong to this clip of 2.0 s"),
        ({"rows": 50}, "@4", "50 rows; at 4 a second 8"),
        ({"kind": np.int64}, "", "int64"),
    ],
)
def test_features_that_do_not_fit_are_said_before_anything_is_composed(score, clips, tmp_path, made, flag, said):
    folder = features(tmp_path / "features", 0, **made)
    done = score(clips / "one.mp4", "--streams", f"synchformer={folder}{flag}", "--dry-run")
    assert done.exit_code == 3 and said in done.stderr and str(folder / "one.npy") in done.stderr


@pytest.mark.parametrize(
    ("streams", "said"),
    [
        ("synchformer=nowhere", "nowhere: there is no such folder of synchformer features"),
        ("synchformer=", "is not a stream with a folder"),
        ("=features", "is not a stream with a folder"),
        ("synchformer=features@often", "'often' is not a rate in rows per second"),
        ("synchformer=features@0", "not a rate in rows"),
        ("marlin", "marlin=FOLDER"),
    ],
)
def test_a_wrong_flag_exits_with_2_and_says_how_it_is_written(score, clips, streams, said):
    done = score(clips, "--streams", streams)
    assert done.exit_code == 2 and said in done.stderr


def test_without_a_flag_the_adapters_own_stream_is_looked_for_and_its_weights_are_named(score, clips):
    done = score(clips)
    assert done.exit_code == 0
    assert done.stderr.count("expotion fetch synchformer") == 1 and "those that the adapter reads" in done.stderr
    said = done.sidecar("one")
    assert [stream["name"] for stream in said["streams"]] == ["flow"], "it stands in"
    assert "expotion fetch synchformer" in said["left_out"][0]
    assert "The picture plays no part." in " ".join(said["notes"])


def random_network(name: str):
    """A state dict in the layout that the encoder's authors publish."""
    import torch

    torch.manual_seed(0)
    if name == "facenet":
        from facenet_pytorch import InceptionResnetV1

        return InceptionResnetV1(pretrained=None, classify=True, num_classes=8631).state_dict()
    if name == "raft":
        from torchvision.models.optical_flow import raft_large

        return raft_large(weights=None, progress=False).state_dict()
    from expotion_cli.vision.synchformer_model import Sizes, VisualEncoder

    tensors = VisualEncoder(Sizes()).state_dict()
    return {f"vfeat_extractor.{name}": 0.02 * torch.randn(tensor.shape) for name, tensor in tensors.items()}


@pytest.mark.long
@pytest.mark.parametrize(
    ("name", "width", "settings"),
    [
        ("facenet", 512, ""),
        ("raft", 256, ""),
        pytest.param("synchformer", 768, "synchformer_stride = 16\n", marks=pytest.mark.slow),
    ],
)
def test_the_papers_encoders_are_followed_end_to_end(expotion, models, tmp_path, name, width, settings):
    import torch

    torch.save(random_network(name), tmp_path / "net.pt")
    tensors = {"pos_emb": torch.randn(LAYERS + 1, WINDOW + 1, DIM), "gates": torch.rand(LAYERS) + 0.5}
    tensors |= {f"merge_linear.{i}.weight": torch.randn(DIM, RANK) for i in range(LAYERS)}
    torch.save(tensors | {"ld_proj.weight": torch.randn(RANK, width)}, tmp_path / "eyes.pth")
    (clip,) = write_demo_clips(tmp_path, [dataclasses.replace(DEMO_CLIPS[2], duration_s=2.0, has_sound=False)])
    alone = "[follow]\nmode = 'none'\n"
    (tmp_path / "mine.toml").write_text(f"{alone}[streams]\n{name}_weights = '{tmp_path / 'net.pt'}'\n{settings}")
    for out, asked in (("first", ()), ("second", ()), ("asked", ("--streams", name))):
        done = expotion(
            "score", clip.path, "--model", models / "model", "--adapter", tmp_path / "eyes.pth", "--device", "cpu",
            "--recipe", tmp_path / "mine.toml", "--seed", 1, *asked, "--out", tmp_path / out,
        )  # fmt: skip
        assert done.exit_code == 0, done.stderr
    first, second, asked = (
        json.loads(next((tmp_path / out).glob("*.json")).read_text()) for out in ("first", "second", "asked")
    )
    (stream,) = first["streams"]
    assert (stream["name"], stream["encoder"]) == (name, name)
    assert stream["found"] > 0.8 and f"that the adapter reads ({name})" in " ".join(first["notes"])
    assert second["artefact"] == first["artefact"] and asked["streams"] == first["streams"]


def test_a_model_without_an_adapter_does_not_look_at_the_clips(score, clips, monkeypatch):
    monkeypatch.setattr("expotion_cli.vision.streams.encode_clip", lambda *_, **__: pytest.fail("looked"))
    done = score(clips, "--streams", "face,flow", adapter=False)
    assert done.exit_code == 0 and done.stderr.count("no adapter for the picture") == 1
    assert done.sidecar("two")["streams"] == []


def test_commands_that_look_themselves_take_no_features(tmp_path):
    with pytest.raises(UsageError, match="does not read"):
        flags.streams(f"face,pose={tmp_path}")
    assert flags.streams("face,pose") == ["face", "pose"] and flags.streams("none") == ()


def test_a_folder_may_have_an_at_sign_in_its_name(tmp_path):
    (tmp_path / "me@5").mkdir()
    for text, rate_hz in ((f"a={tmp_path / 'me@5'}", None), (f"a={tmp_path / 'me@5'}@12.5", 12.5)):
        names, (source,) = flags.streams_and_features(text)
        assert (names, source.folder, source.rate_hz) == (["a"], tmp_path / "me@5", rate_hz)
