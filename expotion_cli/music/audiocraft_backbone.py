"""Meta's audiocraft as a second backbone: MusicGen from text alone, for those who have audiocraft installed.

`AudiocraftModel` takes the place of `model.Model`; audiocraft's own language model, EnCodec and generation do the work,
on audiocraft's own files (`state_dict.bin`, `compression_state_dict.bin`). Use it to hear the reference, or for a
checkpoint that only audiocraft can run. Cues are generated one at a time, each with torch's random numbers seeded from
the cue, so that a cue does not depend on its neighbours here either. That makes it slow.
"""

from __future__ import annotations

import contextlib
import logging
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from fractions import Fraction
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from expotion_cli import storage
from expotion_cli.errors import EnvironmentProblem, UsageError, WeightsError
from expotion_cli.music.checkpoints.audiocraft import CODEC_FILE, LM_FILE, named_beside, read_exported
from expotion_cli.music.checkpoints.safe_torch import read_torch_file
from expotion_cli.music.checkpoints.state_dict import read_json
from expotion_cli.music.codecs.codec import Rating, Rendering, SoundCodec
from expotion_cli.music.codecs.encodec import rate_sound
from expotion_cli.music.load import DTYPES, choose_device
from expotion_cli.timing import Timeline

if TYPE_CHECKING:
    from expotion_cli.music.conditioning import StepStream
    from expotion_cli.music.request import CueRequest
    from expotion_cli.spotting.activity import SeenStream
    from expotion_cli.spotting.plan import CuePlan

STRIDE_SHARE = 0.6
"""A long cue advances by this share of a window and keeps the rest as context: audiocraft's 18 of 30 seconds."""
_HALF = Fraction(1, 2)
_T5_FILES = ("config.json", "model.safetensors", "spiece.model", "tokenizer.json")

VERSION = 2
"""Raised whenever the same cue would give other tokens (2: top_k counts where top_p is 1)."""


class AudiocraftCodec(SoundCodec):
    """A `Codec` over audiocraft's compression model.

    Args:
        model: audiocraft's, stereo interleaving included.
        num_codebooks: codebooks K of the language model.
        digest: hash of its weights and of audiocraft's version.
    """

    name = "encodec"

    def __init__(self, model: Any, num_codebooks: int, digest: str):
        self.model, self.num_codebooks, self.digest = model, num_codebooks, digest
        self.sample_rate, self.vocab_size = model.sample_rate, model.cardinality
        self.rate_hz = Fraction(model.frame_rate).limit_denominator(10_000)
        self.device = next(model.parameters()).device

    def rate(self, tokens: np.ndarray, audio: np.ndarray, timeline: Timeline) -> Rating:
        """See `encodec.rate_sound`."""
        return rate_sound(tokens, audio, float(timeline.rate_hz))

    @torch.no_grad()
    def decode(
        self, tokens: np.ndarray, timeline: Timeline, settings: Any = None, *, seed: int = 0, marks: Any = ()
    ) -> Rendering:
        """Render tokens [K, S] as audio [2, n]; mono goes to both channels."""
        codes = torch.from_numpy(np.ascontiguousarray(tokens))[None].to(self.device)
        return self.rendering(self.model.decode(codes, None)[0].float().cpu().numpy(), timeline)


class AudiocraftModel:
    """The counterpart of `Model`, without embedding streams.

    Args:
        name: the path the user gave.
        generator: audiocraft's `MusicGen`.
        dtype: of the language model's weights.
        digest: hash of everything that decides the tokens.
        codec: turns its tokens into sound.
    """

    backbone = "audiocraft"
    takes_facts = False
    licence = "as its source states"
    adapter_name = None
    streams: tuple[str, ...] = ()

    def __init__(self, name: str, generator: Any, dtype: torch.dtype, digest: str, codec: AudiocraftCodec):
        self.name, self.generator, self.dtype, self.digest, self.codec = name, generator, dtype, digest, codec

    @property
    def device(self) -> torch.device:
        """Device of the weights."""
        return self.generator.device

    def condition(
        self, streams: Mapping[str, SeenStream], timeline: Timeline, *, plan: CuePlan | None = None
    ) -> dict[str, StepStream] | None:
        """None: it follows text alone."""
        return None

    def generate(
        self,
        requests: Sequence[CueRequest],
        *,
        batch_size: int | str = "auto",
        on_progress: Callable[[int, int], None] | None = None,
    ) -> Iterator[tuple[int, np.ndarray]]:
        """Generate cues one at a time, whatever the batch size.

        Yields:
            (index of the request, tokens [K, S] int64).
        """
        for index, request in enumerate(requests):
            yield index, self._compose(request, on_progress)

    def _compose(self, request: CueRequest, on_progress: Callable[[int, int], None] | None) -> np.ndarray:
        sampling, steps, generator = request.sampling, request.num_steps, self.generator
        generator.set_generation_params(
            use_sampling=sampling.temperature > 0,
            top_k=min(sampling.top_k, self.codec.vocab_size),
            top_p=sampling.top_p if sampling.top_p < 1 else 0.0,  # any other value makes it ignore top_k
            temperature=sampling.temperature,
            cfg_coef=sampling.guidance,
            # It cuts duration × rate down to whole steps: half a step more is safe from rounding, and adds none.
            duration=float((steps + _HALF) / self.codec.rate_hz),
            extend_stride=STRIDE_SHARE * generator.max_duration,
        )
        if on_progress is not None:
            generator.set_custom_progress_callback(lambda done, _: on_progress(min(done, steps), steps))
        # audiocraft draws from torch's own generators, which are put back as they were.
        cuda = [self.device] if self.device.type == "cuda" else []
        with torch.random.fork_rng(devices=cuda), torch.no_grad():
            torch.manual_seed(int(request.digest[:15], 16))
            # Not `generate`, which would decode the audio as well; that is the codec's part, later.
            attributes, _ = generator._prepare_tokens_and_attributes([request.prompt], None)
            tokens = generator._generate_tokens(attributes, None, progress=on_progress is not None)
        assert tokens.shape[-1] == steps
        return tokens[0].cpu().numpy().astype(np.int64)


def load_audiocraft(folder: str | Path, *, device: str = "auto", dtype: str = "auto") -> AudiocraftModel:
    """Load MusicGen from a folder of audiocraft's files. Nothing in them is executed, nothing is downloaded.

    Args:
        folder: holds `state_dict.bin`, `compression_state_dict.bin` and the models they name (see
            `checkpoints/audiocraft.py`); or the path of that `state_dict.bin`.
        device: "auto" (CUDA where there is one), "cpu", "cuda", "cuda:1" ...
        dtype: "auto" (fp16 on CUDA, else fp32), "fp32", and on CUDA "bf16" or "fp16".

    Raises:
        EnvironmentProblem: audiocraft is not installed.
        UsageError: there is no such device, or audiocraft does not run this dtype on it.
        WeightsError: files are missing or damaged, or not those of a MusicGen that follows text alone.
    """
    place = choose_device(device)
    kind = _dtype(dtype, place)
    folder = Path(folder)
    if folder.is_file():
        folder = folder.parent
    version = f"audiocraft {_import_audiocraft().__version__}"
    if place.index is not None:
        torch.cuda.set_device(place)  # audiocraft compares devices by name, without their index
    lm, text_digest = _language_model(folder, place.type, kind)
    generator, codec_source = _generator(folder, lm, place, kind)
    digest = storage.digest_of([VERSION, version, storage.digest_file(folder / LM_FILE), text_digest, str(kind)])
    codec = AudiocraftCodec(generator.compression_model, lm.n_q, storage.digest_of([version, codec_source]))
    return AudiocraftModel(str(folder), generator, kind, digest, codec)


def _import_audiocraft() -> Any:
    # xformers warns that its compiled parts don't fit this torch; audiocraft works without them.
    logging.getLogger("xformers").setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            import audiocraft
            import audiocraft.models
    except ImportError as error:
        is_absent = isinstance(error, ModuleNotFoundError) and error.name == "audiocraft"
        raise EnvironmentProblem(
            "audiocraft is not installed." if is_absent else f"audiocraft can't be imported ({error}).",
            remedy="In a checkout of expotion's source, run: uv sync --group audiocraft, and then: "
            "uv run --group audiocraft expotion-score ... (`pip install uv` brings uv). "
            "Or leave --backbone out: expotion's own decoder reads audiocraft's files too.",
        ) from error
    return audiocraft


def _dtype(name: str, device: torch.device) -> torch.dtype:
    if name == "auto":
        return torch.float16 if device.type == "cuda" else torch.float32
    known = DTYPES if device.type == "cuda" else {"fp32": torch.float32}
    if name not in known:
        raise UsageError(
            f"audiocraft does not run in {name!r} on {device.type}.", remedy=f"Use auto, {', '.join(known)}."
        )
    return known[name]


def _language_model(folder: Path, device: str, dtype: torch.dtype) -> tuple[Any, str]:
    """audiocraft's `LMModel`, and the digest of its text encoder."""
    from audiocraft.models import builders
    from audiocraft.modules.conditioners import T5Conditioner
    from omegaconf import OmegaConf

    path = folder / LM_FILE
    settings, state = read_exported(path)
    with _blaming(path):
        cfg = OmegaConf.create(settings.values)
        OmegaConf.set_struct(cfg, False)
        cfg.device, cfg.dtype = device, str(dtype).removeprefix("torch.")
        conditioners = {name: part for name, part in cfg.conditioners.items() if name != "args"}
    if [part.model for part in conditioners.values()] != ["t5"]:
        raise WeightsError(
            "This model needs more than words (a melody, a style).",
            path=path,
            remedy="For MusicGen Melody leave --backbone out: expotion's own decoder reads its files.",
        )
    (words,) = conditioners.values()
    text = named_beside(folder, str(words.t5.name), path, "text encoder")
    with _blaming(text):
        # audiocraft takes only the names in these tables, which may as well be paths.
        T5Conditioner.MODELS_DIMS[str(text)] = read_json(text / "config.json")["d_model"]
        T5Conditioner.MODELS.append(str(text))
        words.t5.name = str(text)
    with _blaming(path):
        lm = builders.get_lm_model(cfg)
        _fill(lm, state, path)
    lm.cfg = cfg
    return lm.eval(), _digest_of_files(text, _T5_FILES)


def _generator(folder: Path, lm: Any, device: torch.device, dtype: torch.dtype) -> tuple[Any, str]:
    """audiocraft's `MusicGen`, and the digest of the codec's files."""
    from audiocraft.models import MusicGen, builders
    from audiocraft.models.encodec import HFEncodecCompressionModel
    from audiocraft.utils.autocast import TorchAutocast
    from omegaconf import OmegaConf
    from transformers import EncodecModel

    path = folder / CODEC_FILE
    if named := read_torch_file(path).get("pretrained"):
        files = ("config.json", "model.safetensors")
        copy = named_beside(folder, str(named), path, "codec")
        with _blaming(copy):
            codec = HFEncodecCompressionModel(EncodecModel.from_pretrained(copy, local_files_only=True))
        digest = _digest_of_files(copy, files)
    else:
        settings, state = read_exported(path)
        with _blaming(path):
            cfg = OmegaConf.create(settings.values)
            OmegaConf.set_struct(cfg, False)
            cfg.device = "cpu"
            codec = builders.get_compression_model(cfg)
            _fill(codec, state, path)
        digest = storage.digest_file(path)
    with _blaming(folder / LM_FILE):
        window_s = float(lm.cfg.dataset.segment_duration)
        # Its constructor presets a stride of 18 s, which must be shorter than the window.
        generator = MusicGen(str(folder), codec.to(device), lm, max_duration=max(window_s, 30.0))
        generator.max_duration = window_s
    if device.type == "cuda":
        is_half = dtype != torch.float32
        generator.autocast = TorchAutocast(enabled=is_half, device_type="cuda", dtype=dtype if is_half else None)
    if generator.compression_model.num_codebooks != lm.n_q:
        raise WeightsError(
            f"The codec speaks {generator.compression_model.num_codebooks} codebooks, the language model {lm.n_q}.",
            path=path,
        )
    return generator, digest


def _fill(module: torch.nn.Module, state: Mapping[str, torch.Tensor], path: Path) -> None:
    for name, tensor in state.items():
        if tensor.isnan().any():
            raise WeightsError(f"The tensor {name!r} holds NaN.", path=path, remedy="Fetch the file again.")
    module.load_state_dict(state)


def _digest_of_files(folder: Path, names: Sequence[str]) -> str:
    return storage.digest_of([storage.digest_file(folder / name) for name in names if (folder / name).is_file()])


@contextlib.contextmanager
def _blaming(path: Path) -> Iterator[None]:
    """Turn whatever audiocraft or transformers raises about a file's content into an error that names the file."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    except WeightsError:
        raise
    except Exception as error:
        reason = " ".join(str(error).split()) or "an assertion failed"
        raise WeightsError(f"audiocraft can't use it ({type(error).__name__}: {reason[:500]}).", path=path) from error
