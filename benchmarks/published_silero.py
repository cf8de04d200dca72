"""Silero VAD as its authors published it: converts its weights, and notes what it says of a made sound.

    pip download silero-vad==6.2.3 --no-deps
    python benchmarks/published_silero.py silero_vad-6.2.3-py3-none-any.whl

It writes model.safetensors and LICENSE in models/silero-vad (their size and sha256 belong into silero-vad.toml), and
tests/speech/published_silero.npz, which the port is held to. The weights are those of `silero_vad.jit`, which the
published ONNX files hold as well; `silero_vad_16k.safetensors` in the same wheel is an earlier training of the network.
"""

from __future__ import annotations

import argparse
import hashlib
import sys
import tempfile
import zipfile
from pathlib import Path

import numpy as np

REPOSITORY = Path(__file__).resolve().parent.parent
SHA256 = "7b7f5436cfcb02fae583a05b512ea96467fd449fe54cb49a5e4f06c51a1e43b8"
NAMES = {
    "stft.forward_basis_buffer": "stft_conv.weight",
    **{f"encoder.{n}.reparam_conv.{part}": f"conv{n + 1}.{part}" for n in range(4) for part in ("weight", "bias")},
    **{f"decoder.rnn.{kind}_{side}": f"lstm.{kind}_{side}_l0" for kind in ("weight", "bias") for side in ("ih", "hh")},
    **{f"decoder.decoder.2.{part}": f"final_conv.{part}" for part in ("weight", "bias")},
}
"""The published tensors' names → ours; their values stay as they are."""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("wheel", type=Path, help="silero_vad-6.2.3-py3-none-any.whl")
    options = parser.parse_args()
    if hashlib.sha256(options.wheel.read_bytes()).hexdigest() != SHA256:
        sys.exit(f"{options.wheel} is not the published wheel.")
    sys.path.append(str(REPOSITORY / "tests" / "helpers"))
    import torch
    from made_sounds import talk
    from safetensors.torch import save_file

    models = REPOSITORY / "models" / "silero-vad"
    models.mkdir(exist_ok=True)
    with tempfile.TemporaryDirectory() as folder, zipfile.ZipFile(options.wheel) as archive:
        network = torch.jit.load(archive.extract("silero_vad/data/silero_vad.jit", folder))
        (models / "LICENSE").write_bytes(archive.read("silero_vad-6.2.3.dist-info/licenses/LICENSE"))
    tensors = network.state_dict()
    ours = {name: tensors[f"_model.{published}"].contiguous() for published, name in NAMES.items()}
    save_file(ours, models / "model.safetensors", {"source": "silero-vad 6.2.3, silero_vad.jit"})
    (models / "model.safetensors").chmod(0o644)
    sound = talk()
    frames = np.pad(sound, (0, -len(sound) % 512)).reshape(-1, 512)
    said = np.array([network(torch.from_numpy(frame[None]), 16_000).item() for frame in frames], np.float32)
    np.savez_compressed(REPOSITORY / "tests" / "speech" / "published_silero.npz", probability=said)
    for path in sorted(models.iterdir()):
        print(path.name, path.stat().st_size, hashlib.sha256(path.read_bytes()).hexdigest())
    print("speech is most probable at", float(said.max()), "mean", float(said.mean()))


if __name__ == "__main__":
    main()
