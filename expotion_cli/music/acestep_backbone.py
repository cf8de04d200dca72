"""ACE-Step 1.5 as a further backbone, through diffusers: recorded sound from a prompt, free for commercial use.

`AceStepModel` takes the place of `model.Model`. A diffusion transformer makes the whole cue at once, out of noise and
of what it is told: prompt, tempo, key, metre and length. Its latents stand for the tokens of other models: 64 channels
at 25 steps a second, in fixed point, so that they are stored and addressed like tokens. Cues are generated one at a
time, each with noise of its own, so that a cue does not depend on its neighbours here either.

The parts are loaded one by one, each as the class that belongs there: what a folder's `model_index.json` names is not
imported.
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
from expotion_cli.errors import ClipError, EnvironmentProblem, ExpotionError, WeightsError
from expotion_cli.music.codecs.codec import Rating, Rendering, SoundCodec
from expotion_cli.music.generate.engine import is_out_of_memory
from expotion_cli.timing import Timeline

if TYPE_CHECKING:
    from expotion_cli.music.conditioning import StepStream
    from expotion_cli.music.request import CueRequest
    from expotion_cli.spotting.activity import SeenStream
    from expotion_cli.spotting.plan import CuePlan

VERSION = 1
"""Raised whenever the same cue would give other latents."""
SOUND_VERSION = 1
"""Raised whenever the same latents would sound different."""
INDEX_FILE = "model_index.json"
PARTS = ("condition_encoder", "scheduler", "text_encoder", "tokenizer", "transformer", "vae")
"""Folders of a model in diffusers' format; its audio tokenizer, which covers need, is not read."""
SHORTEST_S, LONGEST_S = 10, 600
"""Lengths that it was trained for. Shorter cues are cut from one of ten seconds."""
UNIT = 4096
"""Latents are stored as whole multiples of 1 / UNIT; bf16 rounds 1.0 thirty times as coarsely."""
LYRICS = "[Instrumental]"
_TURBO, _GUIDED = {"num_inference_steps": 8, "shift": 3.0}, {"num_inference_steps": 50, "shift": 1.0}
"""As ACE-Step itself runs its turbo models, and the others."""
_TIME_SIGNATURES = {"4/4": "4", "3/4": "3", "6/8": "6"}
_MOST = {"vocab_size": 1 << 20, "max_position_embeddings": 1 << 20, "rope_theta": 1 << 30, "sampling_rate": 1 << 20}
_MOST_LAYERS, _MOST_OTHER = 512, 1 << 16


def is_acestep(folder: Path) -> bool:
    """Whether a folder holds ACE-Step 1.5 in diffusers' format."""
    try:
        index = storage.parse_json(storage.read_text(folder / INDEX_FILE))
        return isinstance(index, dict) and index.get("_class_name") == "AceStepPipeline"
    except (OSError, ValueError):
        return False


class AceStepCodec(SoundCodec):
    """A `Codec` over ACE-Step's variational autoencoder: latents to 48 kHz stereo.

    Args:
        vae: diffusers' `AutoencoderOobleck`, in float32.
        digest: hash of its weights and of diffusers' version.
    """

    name = "oobleck"

    def __init__(self, vae: Any, digest: str):
        self.vae, self.digest = vae, digest
        self.sample_rate: int = vae.config.sampling_rate
        self.rate_hz = Fraction(self.sample_rate, vae.hop_length)
        self.num_codebooks: int = vae.config.decoder_input_channels
        self.vocab_size = 2 * UNIT * UNIT  # of the fixed point; latents are near a standard normal distribution
        vae.enable_tiling()  # long cues part by part, with bounded memory

    def timeline(self, duration: Fraction, tempo: Any) -> Timeline:
        """A grid from 0 at the codec's own rate, whatever the tempo.

        Raises:
            ClipError: the cue would be longer than the model composes.
        """
        if duration > LONGEST_S:
            raise ClipError(
                f"ACE-Step composes at most {LONGEST_S // 60} minutes, the clip lasts {float(duration):.0f} s.",
                remedy="Cut it, or use another --model.",
            )
        return super().timeline(duration, tempo)

    def rate(self, tokens: np.ndarray, audio: np.ndarray, timeline: Timeline) -> Rating:
        """Nothing is found fault with: latents repeat no token, and `decode` clips nothing."""
        return Rating()

    @torch.inference_mode()
    def decode(
        self, tokens: np.ndarray, timeline: Timeline, settings: Any = None, *, seed: int = 0, marks: Any = ()
    ) -> Rendering:
        """Render latents in fixed point [K, S] as audio [2, n], lowered as a whole where it would clip."""
        latents = torch.from_numpy(np.ascontiguousarray(tokens, dtype=np.float32) / UNIT)[None]
        audio = self.vae.decode(latents.to(self.vae.device, self.vae.dtype)).sample[0].float().cpu().numpy()
        return self.rendering(audio / max(1.0, float(np.abs(audio).max())), timeline)


class AceStepModel:
    """The counterpart of `Model`, without embedding streams.

    Args:
        name: the name or path the user gave.
        licence: of the weights.
        pipeline: diffusers' `AceStepPipeline`.
        digest: hash of everything that decides the latents.
        codec: turns them into sound.
    """

    backbone = "diffusers"
    takes_facts = True
    adapter_name = None
    streams: tuple[str, ...] = ()

    def __init__(self, name: str, licence: str, pipeline: Any, digest: str, codec: AceStepCodec):
        self.name, self.licence, self.pipeline, self.digest, self.codec = name, licence, pipeline, digest, codec

    @property
    def device(self) -> torch.device:
        """Device of the weights."""
        return self.pipeline.transformer.device

    @property
    def dtype(self) -> torch.dtype:
        """The transformer's dtype."""
        return self.pipeline.transformer.dtype

    def condition(
        self, streams: Mapping[str, SeenStream], timeline: Timeline, *, plan: CuePlan | None = None
    ) -> dict[str, StepStream] | None:
        """None: it follows words and facts alone."""
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
            (index of the request, latents in fixed point [K, S] int64).

        Raises:
            EnvironmentProblem: there is not enough memory for a cue.
            WeightsError: what came out is no number.
        """
        total, done = sum(request.num_steps for request in requests), 0
        for index, request in enumerate(requests):

            def report(share: float, done: int = done, steps: int = request.num_steps) -> None:
                if on_progress is not None:
                    on_progress(done + int(share * steps), total)

            yield index, self._compose(request, report)
            done += request.num_steps

    def _compose(self, request: CueRequest, report: Callable[[float], None]) -> np.ndarray:
        steps, facts = request.num_steps, request.facts
        num_frames = max(steps, int(SHORTEST_S * self.codec.rate_hz))
        settings = _TURBO if self.pipeline.is_turbo else _GUIDED
        told = {}
        if facts is not None:
            told = {"bpm": facts.bpm, "keyscale": facts.key, "timesignature": _TIME_SIGNATURES[facts.metre]}

        def on_step(_: Any, number: int, *__: Any) -> dict[str, Any]:
            report((number + 1) / settings["num_inference_steps"])
            return {}

        # Drawn on the CPU, whatever the device.
        generator = torch.Generator().manual_seed(int(request.digest[:15], 16))
        try:
            made = self.pipeline(
                prompt=request.prompt,
                lyrics=LYRICS,
                audio_duration=float(num_frames / self.codec.rate_hz),
                # Turbo models have their guidance in the weights; 1 leaves it at that.
                guidance_scale=1.0 if self.pipeline.is_turbo else request.sampling.guidance,
                generator=generator,
                output_type="latent",
                callback_on_step_end=on_step,
                **settings,
                **told,
            )
        except (torch.OutOfMemoryError, MemoryError, RuntimeError) as error:
            if not is_out_of_memory(error):
                raise
            reason = f"There is not enough memory for a single cue ({error})."
            raise EnvironmentProblem(reason, remedy="Use a smaller model, or --dtype bf16.") from error
        latents = made.audios[0, :steps].float().cpu().numpy().T
        if latents.shape != (self.codec.num_codebooks, steps) or not np.isfinite(latents).all():
            dtype = str(self.dtype).removeprefix("torch.")
            raise WeightsError(f"The model gives no music in {dtype}.", remedy="Use --dtype bf16 or fp32.")
        return np.rint(latents * UNIT).astype(np.int64)


def load_acestep(
    folder: Path,
    *,
    name: str,
    licence: str,
    device: torch.device,
    dtype: torch.dtype,
    known: Mapping[Path, str] | None = None,
) -> AceStepModel:
    """Load ACE-Step 1.5 from a folder in diffusers' format. Nothing in it is executed, nothing is downloaded.

    Args:
        folder: holds `model_index.json` and the parts, each in a folder of its own.
        name: the name or path the user gave.
        licence: of the weights.
        device: of all parts.
        dtype: of all parts but the autoencoder, which stays in float32.
        known: sha256 (hex) of files that were just checked, to spare reading them again.

    Raises:
        EnvironmentProblem: diffusers is not installed.
        WeightsError: a part is missing or damaged, or does not belong to this model.
    """
    version = f"diffusers {_import_diffusers().__version__}"
    for part in PARTS:
        _check_sizes(folder / part)
    parts = _load_parts(folder, device, dtype)
    from diffusers import AceStepPipeline

    with _blaming(folder):
        pipeline = AceStepPipeline(**parts)
    pipeline.set_progress_bar_config(disable=True)
    channels = parts["transformer"].config.audio_acoustic_hidden_dim
    if channels != parts["vae"].config.decoder_input_channels:
        expected = parts["vae"].config.decoder_input_channels
        raise WeightsError(f"The autoencoder has {expected} channels, the transformer {channels}.", path=folder)
    digests = {part: _digest(folder / part, known or {}) for part in PARTS}
    codec = AceStepCodec(parts["vae"], storage.digest_of([SOUND_VERSION, version, digests["vae"]]))
    digest = storage.digest_of([VERSION, version, *digests.values(), str(dtype)])
    return AceStepModel(name, licence, pipeline, digest, codec)


def _import_diffusers() -> Any:
    try:
        import diffusers
        from diffusers import AceStepPipeline  # noqa: F401
    except ImportError as error:
        is_absent = isinstance(error, ModuleNotFoundError) and error.name == "diffusers"
        raise EnvironmentProblem(
            "diffusers is not installed." if is_absent else f"diffusers can't be used ({error}).",
            remedy="ACE-Step needs it: pip install 'expotion[acestep]'",
        ) from error
    logging.getLogger("diffusers").setLevel(logging.ERROR)
    return diffusers


def _load_parts(folder: Path, device: torch.device, dtype: torch.dtype) -> dict[str, Any]:
    from diffusers import AceStepTransformer1DModel, AutoencoderOobleck, FlowMatchEulerDiscreteScheduler
    from diffusers.pipelines.ace_step import AceStepConditionEncoder
    from transformers import AutoTokenizer, Qwen3Model
    from transformers.utils.logging import disable_progress_bar

    disable_progress_bar()
    local = {"local_files_only": True}
    parts: dict[str, Any] = {}
    networks = {
        "transformer": (AceStepTransformer1DModel, "torch_dtype", dtype),
        "condition_encoder": (AceStepConditionEncoder, "torch_dtype", dtype),
        "vae": (AutoencoderOobleck, "torch_dtype", torch.float32),
        "text_encoder": (Qwen3Model, "dtype", dtype),
    }
    for part, (kind, keyword, wanted) in networks.items():
        with _blaming(folder / part):
            options = {keyword: wanted, "use_safetensors": True, **local}
            module, told = kind.from_pretrained(folder / part, output_loading_info=True, **options)
            wrong = [*told["missing_keys"], *told["mismatched_keys"]]
            if wrong:
                raise WeightsError(f"The tensor {wrong[0]} is missing or of another shape.", path=folder / part)
            parts[part] = module.to(device).eval().requires_grad_(False)
    with _blaming(folder / "tokenizer"):
        parts["tokenizer"] = AutoTokenizer.from_pretrained(folder / "tokenizer", trust_remote_code=False, **local)
    with _blaming(folder / "scheduler"):
        parts["scheduler"] = FlowMatchEulerDiscreteScheduler.from_pretrained(folder / "scheduler", **local)
    return parts


def _check_sizes(part: Path) -> None:
    """Refuse a part that is not there, or whose settings ask for more than any such model has."""
    if not part.is_dir():
        raise WeightsError("The folder is missing.", path=part, remedy="Fetch the model again.")
    config = part / "config.json"
    if not config.is_file():
        return  # the loader says which file it lacks
    try:
        values = storage.parse_json(storage.read_text(config))
        pairs = list(values.items())
    except (OSError, ValueError, AttributeError) as error:
        raise WeightsError(f"The settings can't be read ({error}).", path=config) from error
    for key, value in pairs:
        if "token_id" in key:
            continue
        most = _MOST.get(key, _MOST_LAYERS if key.endswith("layers") else _MOST_OTHER)
        for number in value if isinstance(value, list) else [value]:
            if isinstance(number, int | float) and not -most <= number <= most:
                raise WeightsError(f"{key} is {number}, expected at most {most}.", path=config)


def _digest(part: Path, known: Mapping[Path, str]) -> str:
    files = sorted(file for file in part.iterdir() if file.suffix in (".json", ".safetensors", ".txt"))
    return storage.digest_of([[file.name, known.get(file) or storage.digest_file(file)] for file in files])


@contextlib.contextmanager
def _blaming(path: Path) -> Iterator[None]:
    """Turn whatever diffusers or transformers raises about a part into an error that names it; they are kept quiet."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    except ExpotionError:
        raise
    except Exception as error:
        if is_out_of_memory(error):
            raise EnvironmentProblem(f"There is not enough memory for the model ({error}).") from error
        reason = " ".join(str(error).split()) or "it can't be read"
        raise WeightsError(f"It can't be used ({type(error).__name__}: {reason[:500]}).", path=path) from error
