"""musicnn as its authors published it: converts the weights of `MTT_musicnn`, and notes what it says of a made sound.

Both need TensorFlow, which this package doesn't. In an environment of its own, with `tensorflow-cpu==2.15.*`,
`numpy<2`, `librosa` and `safetensors`:

    pip download musicnn==0.1.0 --no-deps
    python benchmarks/published_musicnn.py musicnn-0.1.0-py3-none-any.whl

It writes models/musicnn/model.safetensors and LICENSE (their size and sha256 belong into models/musicnn.toml), and
tests/tagging/published_musicnn.npz, which the port is held to. A TensorFlow checkpoint holds tensors alone; nothing
in it is executed.
"""

from __future__ import annotations

import argparse
import hashlib
import sys
import tempfile
import zipfile
from pathlib import Path
from typing import Any

import numpy as np

REPOSITORY = Path(__file__).resolve().parent.parent
SHA256 = "f38a4890c648c1ddbb141c5d96d2b0a8cfcd36746002d896989f7b88beb65cfa"
MODEL, EPSILON = "MTT_musicnn", 1e-3
HOP_S = 1.53
"""94 rows, by the published way to count them."""
CONVS = (
    "timbral.0", "timbral.1", "temporal.0", "temporal.1", "temporal.2", "middle.0", "middle.1", "middle.2",
)  # fmt: skip
NORMS = ("norm", *(f"{name}.norm" for name in CONVS), "pooled_norm", "hidden_norm")


def converted(read: Any) -> dict[str, np.ndarray]:
    """The tensors under our names, from a reader of TensorFlow's; batch normalisations become scale and shift."""
    tensors: dict[str, np.ndarray] = {}
    for number, name in enumerate(CONVS):
        kernel, bias = (read(f"conv2d{_suffix(number)}/{part}") for part in ("kernel", "bias"))
        kernel = kernel.transpose(3, 2, 0, 1)  # [rows, bands, in, out] → [out, in, rows, bands]
        # The middle layers' "bands" are all channels below: convolutions over time alone.
        kernel = kernel[:, 0].transpose(0, 2, 1) if name.startswith("middle") else kernel
        tensors |= {f"{name}.conv.weight": kernel, f"{name}.conv.bias": bias}
    for number, name in enumerate(NORMS):
        prefix = f"batch_normalization{_suffix(number)}"
        mean, variance, gamma, beta = (
            read(f"{prefix}/{part}").astype(np.float64) for part in ("moving_mean", "moving_variance", "gamma", "beta")
        )
        scale = gamma / np.sqrt(variance + EPSILON)
        tensors |= {f"{name}.scale": scale, f"{name}.shift": beta - mean * scale}
    for name, prefix in (("hidden", "dense"), ("tags", "dense_1")):
        tensors |= {f"{name}.weight": read(f"{prefix}/kernel").T, f"{name}.bias": read(f"{prefix}/bias")}
    # Published: maximum and mean of each channel in turn. Ours: all maxima, then all means.
    pooled = len(tensors["pooled_norm.scale"])
    order = np.concatenate([np.arange(0, pooled, 2), np.arange(1, pooled, 2)])
    for name in ("pooled_norm.scale", "pooled_norm.shift"):
        tensors[name] = tensors[name][order]
    tensors["hidden.weight"] = tensors["hidden.weight"][:, order]
    return {name: np.ascontiguousarray(found, dtype=np.float32) for name, found in sorted(tensors.items())}


def _suffix(number: int) -> str:
    return f"_{number}" if number else ""


def published_answer(sound: np.ndarray, folder: Path) -> dict[str, np.ndarray]:
    """What the published code says of a sound at 16 kHz."""
    import soundfile
    from musicnn import configuration
    from musicnn.extractor import extractor

    # All windows in one batch: from the second batch on, the published code repeats the first window's embedding.
    configuration.BATCH_SIZE = 64
    path = folder / "sound.wav"
    soundfile.write(path, sound, 16_000, subtype="FLOAT")
    taggram, tags, features = extractor(str(path), model=MODEL, input_length=3, input_overlap=HOP_S)
    penultimate = features["penultimate"]
    return {"tags": np.array(tags), "taggram": np.array(taggram), "penultimate": np.array(penultimate)}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("wheel", type=Path, help="musicnn-0.1.0-py3-none-any.whl")
    options = parser.parse_args()
    if hashlib.sha256(options.wheel.read_bytes()).hexdigest() != SHA256:
        sys.exit(f"{options.wheel} is not the published wheel.")
    from safetensors.numpy import save_file

    with tempfile.TemporaryDirectory() as folder, zipfile.ZipFile(options.wheel) as archive:
        archive.extractall(folder)
        sys.path[:0] = [folder, str(REPOSITORY / "tests" / "helpers")]
        import tensorflow
        from made_sounds import band

        reader = tensorflow.compat.v1.train.NewCheckpointReader(f"{folder}/musicnn/{MODEL}/")
        models = REPOSITORY / "models" / "musicnn"
        models.mkdir(exist_ok=True)
        save_file(converted(reader.get_tensor), models / "model.safetensors", {"source": f"musicnn 0.1.0, {MODEL}"})
        licence = (Path(folder) / "musicnn-0.1.0.dist-info" / "LICENSE.md").read_text(encoding="utf-8")
        (models / "LICENSE").write_text(licence, encoding="utf-8")
        answer = published_answer(band(), Path(folder))
        np.savez_compressed(REPOSITORY / "tests" / "tagging" / "published_musicnn.npz", **answer)
    for path in sorted(models.iterdir()):
        print(path.name, path.stat().st_size, hashlib.sha256(path.read_bytes()).hexdigest())


if __name__ == "__main__":
    main()
