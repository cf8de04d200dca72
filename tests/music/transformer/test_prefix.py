"""With melody and text as a prefix, the decoder is the same function as transformers' MusicGen Melody."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from fractions import Fraction

import numpy as np
import pytest
import torch
from audiocraft_files import LM_FILE, change_package, lm_settings, save_audiocraft
from cues import FixedEngine, random_adapter
from options import make_request, make_sampling
from safetensors.torch import load_file, save_file
from tiny_melody import FRAMES, save_tiny_melody, tiny_musicgen_melody

from expotion_cli.errors import WeightsError
from expotion_cli.music.checkpoints.huggingface import load_checkpoint
from expotion_cli.music.conditioning import StepStream
from expotion_cli.music.generate.engine import Engine
from expotion_cli.music.transformer.context import LockstepContext
from expotion_cli.music.transformer.delay import apply_delay
from expotion_cli.music.transformer.prefix import NO_PITCH, encode_prefix
from expotion_cli.timing import Timeline

CPU = torch.device("cpu")
PROMPT = "upbeat electronic dance with drums"


class Told:
    """A melody that is known by its pitch classes: a row for each window of 20 steps, 10 apart."""

    def __init__(self, rows: np.ndarray):
        self.rows, self.digest = rows, rows.tobytes().hex()

    def pitches(self, start_s: Fraction) -> np.ndarray:
        return self.rows[int(start_s * 5)]


CHROMA = np.random.default_rng(3).integers(0, 12, (4, FRAMES)).astype(np.uint8)


@pytest.fixture(scope="module")
def melodic():
    return tiny_musicgen_melody()


@pytest.fixture(scope="module")
def melody_folder(melodic, tmp_path_factory):
    return save_tiny_melody(tmp_path_factory.mktemp("melody") / "model", melodic)


@pytest.fixture(scope="module")
def loaded(melody_folder):
    return load_checkpoint(melody_folder, device=CPU, dtype=torch.float32)


def features(pitches: np.ndarray) -> torch.Tensor:
    return torch.eye(12)[torch.from_numpy(pitches.astype(np.int64))]


def tokens_of_length(length: int, num_codebooks: int = 4) -> torch.Tensor:
    torch.manual_seed(1)
    return apply_delay(torch.randint(0, 64, (1, num_codebooks, length)), 64)[:, :, :length]


def prefix_of(checkpoint, prompt: str = PROMPT, pitches: np.ndarray = CHROMA[:1]):
    states, mask = checkpoint.text.encode(prompt, is_padded=False)
    return encode_prefix(checkpoint.decoder, states[None], mask[None], torch.from_numpy(pitches.astype(np.int64)))


@torch.no_grad()
def test_logits_equal_transformers_whole_and_over_cached_steps(melodic, loaded):
    ids, mask = loaded.text.pad([loaded.text.tokenize(PROMPT)], len(loaded.text.tokenize(PROMPT)))
    tokens = tokens_of_length(30)
    theirs = melodic(
        input_ids=ids, attention_mask=mask.long(), input_features=features(CHROMA[:1]),
        decoder_input_ids=tokens.reshape(4, 30),
    ).logits[:, -30:]  # fmt: skip
    prefix = prefix_of(loaded)
    assert prefix.length == FRAMES + ids.shape[1]
    whole = loaded.decoder(tokens, LockstepContext(prefix))
    assert (whole[0] - theirs).abs().max() <= 1e-4 and theirs.std() > 0.1
    context = LockstepContext(prefix, cache=loaded.decoder.new_cache(1, prefix.length + 30))
    parts = [
        loaded.decoder(tokens[:, :, a:b], context) for a, b in ((0, 9), (9, 16), *((i, i + 1) for i in range(16, 30)))
    ]
    assert (torch.cat(parts, dim=2) - whole).abs().max() <= 1e-4
    for other in (prefix_of(loaded, pitches=CHROMA[1:2]), prefix_of(loaded, prompt="slow sad piano")):
        assert (loaded.decoder(tokens, LockstepContext(other)) - whole).abs().max() > 0.1


@torch.no_grad()
def test_the_row_without_text_and_melody_is_transformers_null_input(melodic, loaded):
    count, tokens = len(loaded.text.tokenize(PROMPT)), tokens_of_length(12)
    ids, mask = loaded.text.pad([loaded.text.tokenize(PROMPT)], count)
    null = torch.zeros(1, 1, 12)
    null[..., 0] = 1
    theirs = melodic(
        input_ids=ids, attention_mask=torch.zeros_like(mask).long(), input_features=null,
        decoder_input_ids=tokens.reshape(4, 12),
    ).logits[:, -12:]  # fmt: skip
    states, mask = loaded.text.encode(PROMPT, is_padded=False)
    pitches = torch.full((1, FRAMES), NO_PITCH)
    ours = loaded.decoder(
        tokens, LockstepContext(encode_prefix(loaded.decoder, states[None], torch.zeros_like(mask)[None], pitches))
    )
    assert (ours[0] - theirs).abs().max() <= 1e-4


def compose(engine, requests, **options) -> list[np.ndarray]:
    return [tokens for _, tokens in sorted(engine.generate(requests, **options), key=lambda row: row[0])]


def ask(num_steps: int, prompt: str = PROMPT, melody=None, conditioning=None, seed=0, **sampling):
    timeline = Timeline(Fraction(num_steps, 50), Fraction(50))
    return make_request(prompt, timeline, conditioning, seed, make_sampling(**sampling), melody=melody)


@pytest.mark.long
@pytest.mark.parametrize(("sides", "guidance"), [(1, 1.0), (1, 3.0), (2, 3.0)])
def test_greedy_tokens_are_transformers_for_250_steps(tmp_path, sides, guidance):
    model = tiny_musicgen_melody(4 * sides, sides, seed=5)
    loaded = load_checkpoint(save_tiny_melody(tmp_path / "model", model), device=CPU, dtype=torch.float32)
    cue = ask(250, melody=Told(CHROMA[:1]), guidance=guidance, temperature=0)
    (ours,) = compose(Engine(loaded.decoder, loaded.text, None, 250), [cue])
    ids, mask = loaded.text.pad([loaded.text.tokenize(PROMPT)], len(loaded.text.tokenize(PROMPT)))
    caught, decode = [], model.audio_encoder.decode
    model.audio_encoder.decode = lambda codes, *a, **k: (caught.append(codes), decode(codes, *a, **k))[1]
    model.generate(
        input_ids=ids, attention_mask=mask.long(), input_features=features(CHROMA[:1]), do_sample=False,
        guidance_scale=guidance, max_new_tokens=253,
    )  # fmt: skip
    theirs = torch.stack([codes[0, 0] for codes in caught], dim=1).flatten(0, 1)[:, :250]
    assert len(np.unique(ours)) > 10
    assert ours.tolist() == theirs.tolist()


def test_a_cue_without_a_melody_is_transformers_without_one(melodic, melody_folder):
    loaded = load_checkpoint(melody_folder, device=CPU, dtype=torch.float32)  # the engine takes it over
    (ours,) = compose(Engine(loaded.decoder, loaded.text, None, 60), [ask(60, guidance=3.0, temperature=0)])
    ids, mask = loaded.text.pad([loaded.text.tokenize(PROMPT)], len(loaded.text.tokenize(PROMPT)))
    caught, decode = [], melodic.audio_encoder.decode
    melodic.audio_encoder.decode = lambda codes, *a, **k: (caught.append(codes), decode(codes, *a, **k))[1]
    try:
        melodic.generate(
            input_ids=ids, attention_mask=mask.long(), do_sample=False, guidance_scale=3.0, max_new_tokens=63
        )
    finally:
        melodic.audio_encoder.decode = decode
    assert ours.tolist() == caught[0][0, 0, :, :60].tolist()


def company() -> list:
    """Cues of all lengths and kinds, some longer than a window of 20 steps."""
    rng = np.random.default_rng(0)
    picture = {"pose": StepStream(rng.normal(size=(47, 2)).astype(np.float32), np.ones(47, bool))}
    return [
        ask(9, "slow sad piano", Told(CHROMA[:1]), seed=4),
        ask(47, melody=Told(CHROMA), seed=1),
        ask(30, "", Told(CHROMA[:2]), seed=2),
        ask(26, "dreamy ambient pads, soft", seed=3),
        ask(47, melody=Told(CHROMA), seed=1, conditioning=picture, visual_guidance=2.0),
        ask(20, melody=Told(CHROMA[2:3]), seed=6, guidance=1.0),
    ]


@pytest.fixture(scope="module")
def engines(melody_folder):
    made = []
    for kind in (Engine, FixedEngine):
        loaded = load_checkpoint(melody_folder, device=CPU, dtype=torch.float32)
        made.append(kind(loaded.decoder, loaded.text, random_adapter(loaded.decoder, 20), 20))
    return made


@pytest.mark.long
def test_neighbours_and_buffers_change_no_token_and_melody_and_picture_do(engines):
    engine, fixed = engines
    alone = [compose(engine, [cue])[0] for cue in company()]
    for found in (compose(engine, company()), compose(fixed, company()), compose(fixed, company(), batch_size=2)):
        for ours, expected in zip(found, alone, strict=True):
            assert np.array_equal(ours, expected)
    assert (alone[1] != alone[4]).mean() > 0.3, "the picture"
    (other,) = compose(engine, [ask(47, melody=Told(CHROMA[::-1].copy()), seed=1)])
    assert (alone[1] != other).mean() > 0.3, "the melody"


def test_every_window_of_a_long_cue_gets_its_own_part_of_the_melody(engines):
    engine, _ = engines
    changed = CHROMA.copy()
    changed[3] = (changed[3] + 1) % 12  # 47 steps are four windows: 0-20, 10-30, 20-40, 30-47
    first, second = compose(engine, [ask(47, melody=Told(rows), temperature=0) for rows in (CHROMA, changed)])
    assert np.array_equal(first[:, :40], second[:, :40]) and not np.array_equal(first[:, 40:], second[:, 40:])


def test_a_negative_prompt_and_a_later_one_stand_in_the_prefix(engines):
    engine, fixed = engines
    plain = ask(30, melody=Told(CHROMA), temperature=0)
    away = replace(plain, negative_prompt="slow sad piano with a very long tail of words")
    later = replace(plain, later_prompts=((10, "slow sad piano"),))
    found = compose(engine, [plain, away, later])
    assert (found[0] != found[1]).mean() > 0.3
    # The first window ends at step 10: codebooks that lag behind by three steps no longer see what begins there.
    assert np.array_equal(found[0][:, :7], found[2][:, :7]) and not np.array_equal(found[0], found[2])
    for ours, theirs in zip(compose(fixed, [plain, away, later]), found, strict=True):
        assert np.array_equal(ours, theirs)


def test_closed_gates_leave_the_melody_model_as_it_is(melody_folder):
    loaded = load_checkpoint(melody_folder, device=CPU, dtype=torch.float32)
    adapter = random_adapter(loaded.decoder, 20)
    with torch.no_grad():
        adapter.gates.zero_()
    cue = company()[4]
    (found,) = compose(Engine(loaded.decoder, loaded.text, adapter, 20), [cue])
    (expected,) = compose(Engine(loaded.decoder, loaded.text, None, 20), [cue])
    assert np.array_equal(found, expected)


def test_audiocrafts_files_hold_the_same_model(melodic, melody_folder, loaded, tmp_path):
    folder = save_audiocraft(melodic, melody_folder / "tokenizer.json", tmp_path / "audiocraft")
    ours = load_checkpoint(folder, device=CPU, dtype=torch.float32)
    expected, found = loaded.decoder.state_dict(), ours.decoder.state_dict()
    assert found.keys() == expected.keys() and all(torch.equal(found[name], expected[name]) for name in expected)
    assert ours.decoder.config.melody_frames == 235 and loaded.decoder.config.melody_frames == FRAMES


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("conditioners.self_wav.chroma_stem.radix2_exp", 12),
        ("conditioners.self_wav.chroma_stem.argmax", False),
        ("conditioners.self_wav.model", "style"),
        ("fuser.prepend", ["self_wav"]),
        ("fuser.cross", ["description"]),
        ("conditioners.clap", {"model": "clap"}),
    ],
)
def test_audiocrafts_settings_that_mean_another_model_are_refused_by_name(melodic, melody_folder, tmp_path, key, value):
    folder = save_audiocraft(melodic, melody_folder / "tokenizer.json", tmp_path / "audiocraft")
    change_package(folder / LM_FILE, lambda package: package.update({"xp.cfg": lm_settings(melodic, {key: value})}))
    with pytest.raises(WeightsError, match=key.replace(".", r"\.")):
        load_checkpoint(folder, device=CPU, dtype=torch.float32)


def test_weights_of_one_family_under_a_config_of_the_other_are_named(melody_folder, tiny_folder, tmp_path):
    for weights, config, said in (
        (melody_folder, tiny_folder, "weights are MusicGen Melody's, but the config is plain MusicGen's"),
        (tiny_folder, melody_folder, "config is MusicGen Melody's, but these weights"),
    ):
        folder = shutil.copytree(weights, tmp_path / weights.parent.name)
        shutil.copy(config / "config.json", folder)
        with pytest.raises(WeightsError, match=said) as caught:
            load_checkpoint(folder, device=CPU, dtype=torch.float32)
        assert "model.safetensors" in str(caught.value) and caught.value.remedy


def test_audiocrafts_weights_of_one_family_under_settings_of_the_other_are_named(
    melodic, tiny, melody_folder, tmp_path
):
    for weights, settings, said in (
        (melodic, tiny, "weights are MusicGen Melody's, but the config is plain MusicGen's"),
        (tiny, melodic, "config is MusicGen Melody's, but these weights"),
    ):
        folder = save_audiocraft(weights, melody_folder / "tokenizer.json", tmp_path / weights.config.model_type)
        change_package(folder / LM_FILE, lambda package, of=settings: package.update({"xp.cfg": lm_settings(of)}))
        with pytest.raises(WeightsError, match=said) as caught:
            load_checkpoint(folder, device=CPU, dtype=torch.float32)
        assert LM_FILE in str(caught.value) and caught.value.remedy


@pytest.mark.parametrize(("key", "value"), [("num_chroma", 24), ("chroma_length", 0), ("chroma_length", 1 << 20)])
def test_odd_sizes_in_a_melody_config_are_refused(melody_folder, tmp_path, key, value):
    folder = shutil.copytree(melody_folder, tmp_path / "odd")
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps({**config, key: value}))
    with pytest.raises(WeightsError, match="The config gives"):
        load_checkpoint(folder, device=CPU, dtype=torch.float32)


def test_a_melody_projection_that_is_missing_is_named(melody_folder, tmp_path):
    folder = shutil.copytree(melody_folder, tmp_path / "missing")
    tensors = load_file(folder / "model.safetensors")
    del tensors["audio_enc_to_dec_proj.bias"]
    save_file(tensors, folder / "model.safetensors", {"format": "pt"})
    with pytest.raises(WeightsError, match=r"'audio_enc_to_dec_proj\.bias' is missing"):
        load_checkpoint(folder, device=CPU, dtype=torch.float32)


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_captured_steps_give_the_eager_steps_tokens_behind_a_prefix(melody_folder):
    loaded = load_checkpoint(melody_folder, device=torch.device("cuda"), dtype=torch.float32)
    adapter = random_adapter(loaded.decoder, 20).to("cuda")
    eager, captured = (FixedEngine(loaded.decoder, loaded.text, adapter, 20) for _ in range(2))
    captured.capture = True
    for size in (1, 4):
        expected = compose(eager, company(), batch_size=size)
        for ours, theirs in zip(compose(captured, company(), batch_size=size), expected, strict=True):
            assert np.array_equal(ours, theirs)
