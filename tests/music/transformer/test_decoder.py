"""The decoder is the same function as transformers' MusicGen on the same weights."""

from __future__ import annotations

from fractions import Fraction

import numpy as np
import pytest
import torch
from options import make_request, make_sampling

from expotion_cli.errors import WeightsError
from expotion_cli.music.checkpoints.huggingface import load_checkpoint
from expotion_cli.music.generate.engine import Engine
from expotion_cli.music.transformer.context import LockstepContext
from expotion_cli.music.transformer.delay import apply_delay, remove_delay
from expotion_cli.timing import Timeline

CPU = torch.device("cpu")


@pytest.fixture(scope="module")
def loaded(tiny_folder):
    return load_checkpoint(tiny_folder, device=CPU, dtype=torch.float32)


@pytest.fixture(scope="module")
def prompt(loaded):
    text = loaded.text
    sequences = [text.tokenize("slow sad piano"), text.tokenize("upbeat electronic dance with drums")]
    return text.pad(sequences, 24)


def start_tokens(batch: int, streams: int, length: int, start: int) -> torch.Tensor:
    torch.manual_seed(1)
    return apply_delay(torch.randint(0, start, (batch, streams, length)), start)[:, :, :length]


def test_logits_equal_transformers_over_a_whole_sequence(tiny, loaded, prompt):
    ids, mask = prompt
    tokens = start_tokens(2, 4, 30, 64)
    with torch.no_grad():
        theirs = tiny(input_ids=ids, attention_mask=mask.long(), decoder_input_ids=tokens.reshape(8, 30)).logits
        ours = loaded.decoder(tokens, LockstepContext(loaded.decoder.encode_text(loaded.text(ids, mask), mask)))
    assert (ours.reshape(8, 30, 64) - theirs).abs().max() <= 1e-4
    assert theirs.std() > 0.1  # the comparison is about numbers that matter


def test_cached_steps_equal_the_whole_sequence(loaded, prompt):
    ids, mask = prompt
    tokens = start_tokens(2, 4, 30, 64)
    decoder = loaded.decoder
    with torch.no_grad():
        text = decoder.encode_text(loaded.text(ids, mask), mask)
        whole = decoder(tokens, LockstepContext(text))
        context = LockstepContext(text, cache=decoder.new_cache(2, 30))
        parts = [decoder(tokens[:, :, :9], context), decoder(tokens[:, :, 9:16], context)]
        parts += [decoder(tokens[:, :, i : i + 1], context) for i in range(16, 30)]
    assert (torch.cat(parts, dim=2) - whole).abs().max() <= 1e-4


def test_unconditional_rows_equal_transformers_zeroed_text(tiny, loaded, prompt):
    from transformers.modeling_outputs import BaseModelOutput

    ids, mask = prompt
    tokens = start_tokens(2, 4, 12, 64)
    with torch.no_grad():
        states = loaded.text(ids, mask)
        theirs = tiny(
            encoder_outputs=BaseModelOutput(torch.zeros_like(states)),
            attention_mask=torch.zeros_like(mask).long(),
            decoder_input_ids=tokens.reshape(8, 12),
        ).logits
        ours = loaded.decoder(tokens, LockstepContext(loaded.decoder.encode_text(states, torch.zeros_like(mask))))
    assert (ours.reshape(8, 12, 64) - theirs).abs().max() <= 1e-4


@pytest.fixture(scope="module")
def stereo(make_tiny):
    return make_tiny(num_codebooks=8, audio_channels=2, seed=5)


@pytest.mark.long
@pytest.mark.parametrize("guidance", [1.0, 3.0])
@pytest.mark.parametrize("kind", ["tiny", "stereo"])
def test_greedy_tokens_are_identical_to_transformers_generate_for_250_steps(request, save, tmp_path, kind, guidance):
    model = request.getfixturevalue(kind)
    loaded = load_checkpoint(save(model, tmp_path / kind), device=CPU, dtype=torch.float32)
    num_steps, prompt = 250, "upbeat electronic dance with drums"
    ids, mask = loaded.text.pad([loaded.text.tokenize(prompt)], 64)
    engine = Engine(loaded.decoder, loaded.text, None, num_steps)
    timeline = Timeline(Fraction(num_steps, 50), Fraction(50))
    cue = make_request(prompt, timeline, None, 0, make_sampling(guidance=guidance, temperature=0))
    ((_, ours),) = engine.generate([cue])
    theirs = transformers_greedy(model, ids, mask, num_steps, guidance)
    assert len(np.unique(ours)) > 10
    assert ours.tolist() == theirs.tolist()


def transformers_greedy(model, ids, mask, num_steps: int, guidance: float) -> torch.Tensor:
    """The tokens [K, S] that transformers' own `generate` hands to its audio decoder, side by side in stereo."""
    caught = []
    decode = model.audio_encoder.decode

    def catch(codes, *args, **kwargs):
        caught.append(codes)
        return decode(codes, *args, **kwargs)

    model.audio_encoder.decode = catch
    try:
        model.generate(
            input_ids=ids,
            attention_mask=mask.long(),
            do_sample=False,
            guidance_scale=guidance,
            max_new_tokens=num_steps + 3,  # the longest delay, in mono and in stereo
        )
    finally:
        model.audio_encoder.decode = decode
    sides = [codes[0, 0] for codes in caught]
    return torch.stack(sides, dim=1).flatten(0, 1)[:, :num_steps]


def test_delay_pattern_round_trips():
    tokens = torch.arange(24).reshape(1, 4, 6)
    delayed = apply_delay(tokens, 99)
    assert delayed.shape == (1, 4, 10)
    assert delayed[0, 0].tolist() == [99, 0, 1, 2, 3, 4, 5, 99, 99, 99]
    assert delayed[0, 3].tolist() == [99, 99, 99, 99, 18, 19, 20, 21, 22, 23]
    assert torch.equal(remove_delay(delayed, 6), tokens)


def test_audio_equals_transformers_encodec(tiny, loaded):
    from fractions import Fraction

    import numpy as np

    from expotion_cli.music.codecs.encodec import EncodecCodec
    from expotion_cli.timing import Timeline

    codec = EncodecCodec(loaded.audio, 4, loaded.digest)
    tokens = np.random.default_rng(0).integers(0, 64, (4, 50))
    timeline = Timeline(Fraction(99, 100), codec.rate_hz)
    rendering = codec.decode(tokens, timeline)
    with torch.no_grad():
        theirs = tiny.audio_encoder.decode(torch.from_numpy(tokens)[None, None], [None]).audio_values[0, 0].numpy()
    assert rendering.audio.shape == (2, 792)
    assert np.abs(rendering.audio[0] - theirs[:792]).max() <= 1e-5
    assert np.abs(theirs).max() > 1e-3


@pytest.mark.parametrize(
    ("damage", "word"),
    [
        (lambda t: t.pop("decoder.model.decoder.layers.1.fc1.weight"), "layers.1.fc1.weight"),
        (lambda t: t.update({"decoder.lm_heads.0.weight": torch.zeros(3, 3)}), r"shape \[3, 3\], expected \[64, 32\]"),
        (lambda t: t.update({"decoder.surprise": torch.zeros(1)}), "decoder.surprise"),
        (lambda t: t["decoder.model.decoder.layer_norm.weight"].fill_(float("nan")), "NaN"),
    ],
)
def test_a_damaged_checkpoint_names_the_tensor(tiny_folder, tmp_path, damage, word):
    from shutil import copytree

    from safetensors.torch import load_file, save_file

    folder = copytree(tiny_folder, tmp_path / "damaged")
    tensors = load_file(folder / "model.safetensors")
    damage(tensors)
    save_file(tensors, folder / "model.safetensors", {"format": "pt"})
    with pytest.raises(WeightsError, match=word):
        load_checkpoint(folder, device=CPU, dtype=torch.float32)


def test_a_truncated_checkpoint_is_named(tiny_folder, tmp_path):
    from shutil import copytree

    folder = copytree(tiny_folder, tmp_path / "cut")
    content = (folder / "model.safetensors").read_bytes()
    (folder / "model.safetensors").write_bytes(content[: len(content) // 2])
    with pytest.raises(WeightsError, match="model.safetensors"):
        load_checkpoint(folder, device=CPU, dtype=torch.float32)
