"""Tokens a second of this project's engine against transformers' `generate`, on the same random weights.

Both draw with guidance 3 and top-k 250, text encoding included; transformers' time holds a tiny EnCodec as well, which
takes next to nothing. The engine always decodes blocks of four cues, so that a cue's tokens do not depend on its
company; with one cue it pays for that. Ratios are of the same run, best of `--repeats` each, in turns.

    python benchmarks/decode.py --size mini --seconds 4
    python benchmarks/decode.py --size small --device cuda --dtype bf16
"""

from __future__ import annotations

import argparse
import tempfile
import time
from collections.abc import Callable
from fractions import Fraction
from pathlib import Path
from typing import Any

import torch
from bench import machine, print_table, use_cores, write_results

RATE_HZ = 50
GUIDANCE, TOP_K = 3.0, 250
PROMPTS = ("slow sad piano", "fast epic strings with drums", "dreamy ambient pads", "upbeat electronic dance")
SIZES = {
    "mini": {"hidden_size": 192, "num_hidden_layers": 6, "num_attention_heads": 6, "ffn_dim": 768},
    "small": {"hidden_size": 1024, "num_hidden_layers": 24, "num_attention_heads": 16, "ffn_dim": 4096},
}
DTYPES = {"fp32": torch.float32, "bf16": torch.bfloat16}


def random_musicgen(size: str) -> Any:
    """transformers' MusicGen with random weights: the decoder of that size, small text and audio models."""
    from transformers import MusicgenConfig, MusicgenForConditionalGeneration
    from transformers.utils import logging

    logging.set_verbosity_error()
    logging.disable_progress_bar()
    torch.manual_seed(0)
    config = MusicgenConfig(
        text_encoder={"model_type": "t5", "vocab_size": 400, "d_model": 128, "d_kv": 32, "d_ff": 256, "num_layers": 2,
                      "num_heads": 4, "dropout_rate": 0.0},
        audio_encoder={"model_type": "encodec", "sampling_rate": 32_000, "upsampling_ratios": [8, 5, 4, 4],
                       "num_filters": 2, "hidden_size": 8, "codebook_dim": 8, "codebook_size": 2048,
                       "num_lstm_layers": 1, "audio_channels": 1,
                       "target_bandwidths": [2.2], "norm_type": "weight_norm", "normalize": False,
                       "use_causal_conv": False},
        decoder={"model_type": "musicgen_decoder", "vocab_size": 2048, "num_codebooks": 4, "audio_channels": 1,
                 "dropout": 0.0, "pad_token_id": 2048, "bos_token_id": 2048, **SIZES[size]},
    )  # fmt: skip
    model = MusicgenForConditionalGeneration(config).eval()
    model.generation_config.decoder_start_token_id = model.generation_config.pad_token_id = 2048
    return model


def timed(work: Callable[[], int], device: torch.device) -> tuple[float, int]:
    """(seconds, token steps made), with the device's queue empty before and after."""
    for action in ("start", "stop"):
        if device.type == "cuda":
            torch.cuda.synchronize()
        if action == "start":
            started = time.perf_counter()
            steps = work()
    return time.perf_counter() - started, steps


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--size", choices=SIZES, default="mini")
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--dtype", default="fp32", help="one or more of fp32, bf16, with commas")
    parser.add_argument("--batch", default="1,4", help="cues at once, with commas")
    parser.add_argument("--seconds", type=float, default=4.0, help="length of a cue at 50 steps a second")
    parser.add_argument("--repeats", type=int, default=2)
    parser.add_argument("--cores", type=int, default=0, help="use only so many processors; 0 for all")
    options = parser.parse_args()
    use_cores(options.cores)
    facts = machine()
    from expotion_cli.music.checkpoint import load_checkpoint
    from expotion_cli.music.engine import CueRequest, Engine
    from expotion_cli.music.sampling import Sampling
    from expotion_cli.music.text import train_tokenizer
    from expotion_cli.timing import Timeline

    device = torch.device(options.device)
    if device.type == "cuda":
        facts["device"] = torch.cuda.get_device_name(device)
    timeline = Timeline(Fraction(options.seconds), Fraction(RATE_HZ))
    theirs = random_musicgen(options.size)
    rows, results = [], []
    with tempfile.TemporaryDirectory(prefix="expotion-bench-") as name:
        theirs.save_pretrained(name)
        train_tokenizer(PROMPTS, Path(name) / "tokenizer.json", 400)
        for dtype in options.dtype.split(","):
            checkpoint = load_checkpoint(Path(name), device=device, dtype=DTYPES[dtype])
            engine = Engine(checkpoint.decoder, checkpoint.text, None, 30 * RATE_HZ)
            theirs.to(device=device, dtype=DTYPES[dtype])
            for batch in (int(text) for text in options.batch.split(",")):
                prompts = [PROMPTS[i % len(PROMPTS)] for i in range(batch)]
                sampling = Sampling(guidance=GUIDANCE, top_k=TOP_K)
                requests = [CueRequest(p, timeline, None, seed, sampling) for seed, p in enumerate(prompts)]
                sequences = [checkpoint.text.tokenize(prompt) for prompt in prompts]
                ids, mask = checkpoint.text.pad(sequences, max(len(s) for s in sequences))

                def ours(requests: list = requests, engine: Any = engine) -> int:
                    return sum(tokens.shape[1] for _, tokens in engine.generate(requests, batch_size=len(requests)))

                def library(ids: Any = ids, mask: Any = mask, batch: int = batch) -> int:
                    with torch.inference_mode():
                        theirs.generate(
                            input_ids=ids,
                            attention_mask=mask.long(),
                            do_sample=True,
                            top_k=TOP_K,
                            guidance_scale=GUIDANCE,
                            max_new_tokens=timeline.num_steps + 3,  # the delay pattern takes three more
                        )
                    return batch * timeline.num_steps

                best = {"ours": 0.0, "transformers": 0.0}
                for _ in range(options.repeats):
                    for who, work in (("ours", ours), ("transformers", library)):
                        seconds, steps = timed(work, device)
                        best[who] = max(best[who], steps / seconds)
                ratio = best["ours"] / best["transformers"]
                rows.append((f"{options.size} {dtype}, {batch} at once", *best.values(), ratio))
                speeds = {who: round(speed, 2) for who, speed in best.items()}
                results.append({"dtype": dtype, "batch": batch, "steps_per_s": speeds, "ratio": round(ratio, 3)})
    print_table(f"Steps a second on {device.type}, guidance {GUIDANCE:g}", ("", "ours", "transformers", "ratio"), rows)
    settings = {
        "size": options.size,
        "device": device.type,
        "seconds": options.seconds,
        "guidance": GUIDANCE,
        "top_k": TOP_K,
    }
    write_results("decode", {"machine": facts, "settings": settings, "codebooks": 4, "results": results})


if __name__ == "__main__":
    main()
