"""The embedded model can be remade: corpus, decoder, adapter, export, and music from what was exported."""

from __future__ import annotations

import copy
import importlib.util
import json
import re
import shutil
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest
import torch
from devices import DEVICES
from options import make_request

from expotion_cli.errors import EnvironmentProblem, RecipeError, UsageError
from expotion_cli.music.conditioning import FORM, StepStream, form_stream
from expotion_cli.music.load import load_model
from expotion_cli.music.plan_stream import PLAN
from expotion_cli.music.transformer.adapter import AdapterConfig, JointEmbeddingAdapter, StreamSpec
from expotion_cli.timing import Tempo
from expotion_cli.training.logs import read_log
from expotion_cli.training.mini.conditioning import MASK_ALL, condition_batch, drop_streams
from expotion_cli.training.mini.continuing import continue_adapter
from expotion_cli.training.mini.corpus.build import build_corpus
from expotion_cli.training.mini.crops import corpus_pieces, fixed_crops
from expotion_cli.training.mini.settings import MiniSettings
from expotion_cli.training.mini.trainer import MiniTrainer
from expotion_cli.weights import manifest

LOOP = {"steps": 2, "warmup_steps": 1, "eval_every": 2, "save_every": 1, "seed": 1}
OPTIMIZER = {"matrix_lr": 3e-3, "other_lr": 3e-3, "weight_decay": 0.0}
TINY = MiniSettings(
    corpus={
        "shares": {"composed": 1.0},
        "build": {"num_composed": 20, "seed": 1, "chorales": False, "workers": 1, "held_out_share": 0.15},
        "grooves": {
            "num_composed": 16,
            "seed": 2,
            "chorales": False,
            "workers": 1,
            "held_out_share": 0.2,
            "grooves": True,
        },
    },
    decoder={"dim": 32, "num_layers": 1, "num_heads": 2, "ffn_dim": 64},
    text={"vocab_size": 300, "d_model": 16, "d_kv": 8, "d_ff": 32, "num_layers": 1, "num_heads": 2},
    adapter={"num_layers": 1, "rank": 4, "window_steps": 96},
    pretrain={"window_steps": 96, "batch": 2, "text_dropout": 0.1, "optimizer": OPTIMIZER, "loop": LOOP},
    follow={
        "start": "",
        "shares": {"composed": 0.6, "midi": 0.4},
        "batch": 2,
        "warm_up_steps": 10,
        "decoder_alone": 0.0,
        "text_dropout": 0.1,
        "drop": {"all": 0.1, "sensors": 0.2, "plan": 0.1, "each": 0.2},
        "optimizer": OPTIMIZER,
        "adapter_optimizer": OPTIMIZER,
        "loop": LOOP,
    },
)


@pytest.fixture(scope="module")
def made(tmp_path_factory) -> tuple[Path, Path]:
    """(work folder, exported model folder)"""
    root = tmp_path_factory.mktemp("mini")
    MiniTrainer(root / "work", TINY).run(root / "models" / "tiny-mini")
    return root / "work", root / "models" / "tiny-mini"


def ship(folder: Path, monkeypatch) -> None:
    """Let a model's folder stand among the shipped models, beside the soundfont."""
    shipped = manifest.shipped_folder("models")
    for name in ("fluidr3mono", "fluidr3mono.toml"):
        if not (folder.parent / name).exists():
            (folder.parent / name).symlink_to(shipped / name)
    monkeypatch.setattr(manifest, "shipped_folder", lambda name: folder.parent)


def compose(model) -> np.ndarray:
    tempo = Tempo(Fraction(100), Fraction(0), 0.0)
    timeline = model.codec.timeline(Fraction(2), tempo)
    request = make_request("calm piano", timeline, model.condition({}, timeline), 3)
    ((_, tokens),) = model.generate([request])
    assert tokens.shape == (8, timeline.num_steps)
    return tokens


def test_what_is_exported_loads_by_path_and_composes(made):
    _, folder = made
    model = load_model(str(folder), device="cpu", adapter=folder / "adapter")
    assert model.codec.name == "notes" and model.engine.window == 96
    assert set(model.streams) == {"pose", "face", "flow"}
    tokens = compose(model)
    assert len(np.unique(tokens)) > 5
    assert load_model(str(folder), device="cpu", adapter="none").engine.window == 96


def test_what_is_exported_is_a_shipped_model_with_a_manifest_of_all_its_files(made, monkeypatch):
    _, folder = made
    ship(folder, monkeypatch)
    model = load_model("tiny-mini", device="cpu")
    assert "own" in model.adapter_name
    listed = {file.path for file in manifest.find_manifest("tiny-mini", "music").files}
    assert listed == {path for path in folder.rglob("*") if path.is_file()}
    path_model = load_model(str(folder), device="cpu", adapter=folder / "adapter")
    assert model.digest == path_model.digest and np.array_equal(compose(model), compose(path_model))


def test_exported_weights_are_the_trained_ones(made):
    work, folder = made
    model = load_model(str(folder), device="cpu", adapter=folder / "adapter")
    modules = torch.load(work / "follow" / "checkpoint.pt", weights_only=True)["modules"]
    trained, first = modules["decoder"], torch.load(work / "pretrain" / "checkpoint.pt", weights_only=True)["modules"]
    assert not torch.equal(trained["lm_heads.0.weight"], first["decoder"]["lm_heads.0.weight"]), "it learned on"
    for name, tensor in model.decoder.state_dict().items():
        assert torch.equal(tensor, trained[name].half().float())
    gates = modules["adapter"]["gates"]
    assert gates.abs().max() > 0 and torch.equal(model.adapter.gates, gates.half().float())


def test_the_facts_tell_of_corpus_losses_and_statistics(made):
    work, folder = made
    facts = json.loads((folder / "training.json").read_text())
    assert facts["corpus"]["train_pieces"] + facts["corpus"]["held_out_pieces"] == 20
    assert facts["corpus"]["held_out_pieces"] > 0 and facts["corpus"]["scores"] == []
    assert sum(facts["corpus"]["styles"].values()) == facts["corpus"]["train_pieces"]
    assert 0 < facts["unigram"]["all"] < facts["unigram"]["onset"]
    assert facts["pretrain"] == read_log(work / "pretrain" / "held_out.csv")
    columns = {f"{condition}composed_onset" for condition in ("", "shuffled_", "unseen_", "off_")}
    assert columns | {"gate"} <= set(facts["follow"][-1])
    assert 0 < facts["grooves"]["train_pieces"] < 16 and facts["grooves"]["files"] == []
    density = facts["statistics"]["density"]
    assert 0 < density["p5"] < density["p50"] < density["p95"]
    by_steps = facts["statistics_by_steps"]
    assert list(by_steps) == ["96", "192", "384"]
    assert all(set(row) == set(facts["statistics"]) for row in by_steps.values())
    # The shorter the excerpt, the fewer pitches occur in it.
    entropy = [row["pitch_class_entropy"]["p50"] for row in (*by_steps.values(), facts["statistics"])]
    assert entropy == sorted(entropy) and entropy[-1] - entropy[0] > 0.1


def test_a_second_run_trains_nothing_and_exports_the_same_files(made, tmp_path):
    work, folder = made
    again = shutil.copytree(work, tmp_path / "work")
    MiniTrainer(again, TINY).run(tmp_path / "again")
    weight_files = ("model.safetensors", "adapter/adapter_model.safetensors", "adapter/adapter_config.json")
    for name in (*weight_files, "tokenizer.json", "config.json", "training.json"):
        assert (tmp_path / "again" / name).read_bytes() == (folder / name).read_bytes(), name


def test_a_following_stage_lost_is_remade_to_the_same_bits(made, tmp_path):
    work, folder = made
    again = shutil.copytree(work, tmp_path / "work")
    shutil.rmtree(again / "follow")
    MiniTrainer(again, TINY).run(tmp_path / "again")
    name = "adapter/adapter_model.safetensors"
    assert (tmp_path / "again" / name).read_bytes() == (folder / name).read_bytes()


def test_another_seed_trains_another_decoder(made, tmp_path):
    work, _ = made
    shutil.copytree(work / "corpus", tmp_path / "corpus")
    other = copy.deepcopy(TINY)
    other.pretrain["loop"]["seed"] = 2
    trainer = MiniTrainer(tmp_path, other)
    decoder, _ = trainer.pretrain(trainer.corpus())
    trained = torch.load(work / "pretrain" / "checkpoint.pt", weights_only=True)["modules"]["decoder"]
    assert not torch.equal(decoder.lm_heads[0].weight, trained["lm_heads.0.weight"])


def test_held_out_crops_come_from_pieces_never_trained_on(made):
    work, _ = made
    corpus = MiniTrainer(work, TINY).corpus()
    crops = fixed_crops(corpus_pieces(corpus, corpus.held_out), 96)
    assert len(crops) == len(corpus.held_out)
    assert not set(corpus.held_out) & set(corpus.train)
    assert all(any(c.attributes is corpus.attributes[n] for n in corpus.held_out) for c in crops)
    assert np.array_equal(crops[0].tokens, corpus.piece(corpus.held_out[0])[:, :96])


def streams() -> dict[str, StepStream]:
    seen = {name: StepStream(np.ones((10, 2), np.float32), np.ones(10, bool)) for name in ("pose", "face", "flow")}
    return {**seen, FORM: form_stream(10), PLAN: StepStream(np.ones((10, 2), np.float32), np.ones(10, bool))}


def test_dropped_streams_are_masked_all_at_once_or_each_alone_and_the_form_stays():
    rng = np.random.default_rng(0)
    chances = {"all": 0.2, "sensors": 0.1, "plan": 0.15, "each": 0.3}
    drawn = [drop_streams(streams(), chances, rng) for _ in range(1500)]
    seen = np.array([[found[name].mask.all() for name in ("pose", "face", "flow")] for found in drawn])
    assert all(found[FORM].mask.all() for found in drawn)
    assert (~seen).mean() == pytest.approx(0.28 + 0.72 * 0.3, abs=0.03)
    assert (~seen).all(axis=1).mean() == pytest.approx(0.28 + 0.72 * 0.3**3, abs=0.03)
    plans = np.array([found[PLAN].mask.all() for found in drawn])
    assert (~plans).mean() == pytest.approx(0.2 + 0.8 * 0.15, abs=0.03)
    assert (plans & ~seen.any(axis=1)).any() and (~plans & seen.any(axis=1)).any(), "each is learned without the other"
    assert not any(drop_streams(streams(), MASK_ALL, rng)["pose"].mask)
    assert drop_streams(streams(), dict.fromkeys(chances, 0.0), rng)["pose"].mask.all()


def test_dropping_leaves_the_given_streams_alone():
    given = streams()
    drop_streams(given, dict.fromkeys(MASK_ALL, 1.0), np.random.default_rng(0))
    assert given["pose"].mask.all()


def test_the_condition_of_a_batch_holds_its_last_row_for_the_start_tokens_place(made):
    model = load_model(str(made[1]), device="cpu", adapter=made[1] / "adapter")
    rng = np.random.default_rng(0)
    rows = {
        spec.name: StepStream(rng.random((96, len(spec.dims))).astype(np.float32), np.ones(96, bool))
        for spec in model.adapter.config.streams
    }
    condition = condition_batch(model.adapter, [rows, rows], torch.device("cpu"))
    assert condition.shape == (2, 97, model.adapter.config.input_dim)
    assert torch.equal(condition[:, 96], condition[:, 95])
    joined = np.concatenate([rows[spec.name].values for spec in model.adapter.config.streams], axis=1)
    assert np.array_equal(condition[0, :96].numpy(), joined)


def test_the_shipped_training_recipe_makes_a_model_of_a_few_million_parameters():
    settings = MiniSettings.load()
    trainer = MiniTrainer(Path("unused"), settings)
    decoder = trainer.build_decoder()
    assert 2e6 <= sum(p.numel() for p in decoder.parameters()) <= 8e6
    assert trainer.window % 48 == 0 and settings.adapter["num_layers"] <= settings.decoder["num_layers"]
    assert torch.equal(decoder.lm_heads[0].weight, trainer.build_decoder().lm_heads[0].weight)


def test_the_shipped_weights_were_made_with_the_shipped_recipe(repository):
    settings = MiniSettings.load()
    folder = repository / "models" / "expotion-mini"
    config, adapter, facts = (
        json.loads((folder / name).read_text())
        for name in ("config.json", "adapter/adapter_config.json", "training.json")
    )
    decoder, text = config["decoder"], config["text_encoder"]
    sizes = {"dim": "hidden_size", "num_layers": "num_hidden_layers", "num_heads": "num_attention_heads"}
    assert settings.decoder == {name: decoder[sizes.get(name, name)] for name in settings.decoder}
    assert settings.text == {name: text[name] for name in settings.text}
    assert settings.adapter == {name: adapter[name] for name in settings.adapter}
    for stage in ("pretrain", "follow"):
        loop = getattr(settings, stage)["loop"]
        every, steps = loop["eval_every"], loop["steps"]
        assert [row["step"] for row in facts[stage]] == sorted({*range(every, steps, every), steps})
    corpus, grooves = facts["corpus"], facts["grooves"]
    pieces = settings.corpus["build"]["num_composed"] + len(corpus["scores"])
    assert corpus["train_pieces"] + corpus["held_out_pieces"] == pieces
    assert grooves["train_pieces"] + grooves["held_out_pieces"] > settings.corpus["grooves"]["num_composed"]
    assert len(grooves["files"]) > 50 and all(file["statement"].startswith("Copyright") for file in grooves["files"])


def test_a_work_folder_of_another_recipe_is_not_gone_on_with(made, tmp_path):
    again = shutil.copytree(made[0], tmp_path / "work")
    other = copy.deepcopy(TINY)
    other.follow["batch"] = 3
    with pytest.raises(UsageError, match="another run: its recipe's follow.batch differs"):
        MiniTrainer(again, other).run(tmp_path / "again")
    assert not (tmp_path / "again").exists()


@pytest.mark.parametrize("device", DEVICES)
def test_limited_minutes_are_shared_by_the_stages_and_belong_to_the_run(made, tmp_path, device):
    for name in ("corpus", "grooves"):
        shutil.copytree(made[0] / name, tmp_path / "work" / name)
    longer = copy.deepcopy(TINY)
    longer.pretrain["loop"] = {**LOOP, "steps": 3 * LOOP["steps"]}  # the copy shares one table between the stages

    def trainer(minutes: float, settings: MiniSettings = longer) -> MiniTrainer:
        return MiniTrainer(tmp_path / "work", settings, device, minutes=minutes)

    assert (trainer(8).loop("pretrain").minutes, trainer(8).loop("follow").minutes) == (6, 2)
    alone = MiniSettings(**{**vars(longer), "follow": longer.follow | {"start": "expotion-mini"}})
    assert trainer(8, alone).loop("follow").minutes == 8 and trainer(0).loop("follow").minutes == 0
    trainer(1e-4).prepare()
    assert {path.name for path in (tmp_path / "work").iterdir()} == {"corpus", "grooves", "tokenizer", "run.json"}
    trainer(1e-4).run(tmp_path / "model")
    steps = {
        stage: read_log(tmp_path / "work" / stage / "held_out.csv")[-1]["step"] for stage in ("pretrain", "follow")
    }
    assert 1 <= steps["pretrain"] < 6 and steps["follow"] >= 1, "a step takes longer than the time there is"
    model = load_model(str(tmp_path / "model"), device=device, adapter=tmp_path / "model" / "adapter")
    assert len(compose(model)) == 8
    with pytest.raises(UsageError, match="another run: --minutes differs"):
        trainer(2e-4).run(tmp_path / "model")


def test_a_recipes_keys_are_the_shipped_ones(repository, tmp_path):
    text = (repository / "recipes" / "train" / "mini.toml").read_text()
    path = tmp_path / "mine.toml"
    changes = {
        ("dim = 192", "dimm = 192"): "'decoder.dimm' (did you mean 'decoder.dim'?)",
        ("num_heads = 6\n", ""): "'decoder.num_heads' is missing",
        ("save_every = 50, seed = 2", "save_evry = 50, seed = 2"): "'follow.loop.save_evry'",
        ("matrix_lr = 2e-3, ", ""): "'follow.adapter_optimizer.matrix_lr' is missing",
        ("[follow]", "[folow]"): "'folow' (did you mean 'follow'?)",
        ("seed = 1\n\n[corpus.grooves]", "seeds = 1\n\n[corpus.grooves]"): "'corpus.build.seeds'",
    }
    for (old, new), wanted in changes.items():
        assert text.count(old) == 1, old
        path.write_text(text.replace(old, new))
        with pytest.raises(RecipeError, match=re.escape(wanted)):
            MiniSettings.load(path)
    path.write_text(text.replace("save_every = 50, seed = 2", "seed = 2"))
    assert MiniSettings.load(path).follow["loop"].keys() < MiniSettings.load().follow["loop"].keys()


def test_missing_scores_are_told_before_hours_of_composing(tmp_path, monkeypatch):
    find = importlib.util.find_spec
    monkeypatch.setattr(
        importlib.util, "find_spec", lambda name, *more: None if name == "music21" else find(name, *more)
    )
    with pytest.raises(EnvironmentProblem, match="pip install music21"):
        build_corpus(tmp_path / "corpus", num_composed=10**6, seed=0)
    assert not (tmp_path / "corpus").exists()


def test_the_second_stage_can_start_from_a_model_with_another_adapter(made, tmp_path, monkeypatch):
    _, folder = made
    ship(folder, monkeypatch)
    other = copy.deepcopy(TINY)
    other.follow.update(start="tiny-mini", loop={**LOOP, "steps": 1})
    trainer = MiniTrainer(tmp_path / "work", other)
    trainer.run(tmp_path / "models" / "again")
    assert not (tmp_path / "work" / "pretrain").exists()
    facts, first = (json.loads((f / "training.json").read_text()) for f in (tmp_path / "models" / "again", folder))
    assert facts["pretrain"] == first["pretrain"] and facts["earlier"][0]["follow"] == first["follow"]
    again = load_model(str(tmp_path / "models" / "again"), adapter=tmp_path / "models" / "again" / "adapter")
    known = load_model(str(folder), device="cpu", adapter=folder / "adapter")
    assert again.adapter.pos_emb.sub(known.adapter.pos_emb).abs().max() < 0.1, "it was not begun anew"
    assert len(compose(again)) == 8


def test_an_adapter_continues_what_it_knows_and_draws_what_it_reads_anew():
    old, new = (
        JointEmbeddingAdapter(AdapterConfig(8, 1, 3, 12, (StreamSpec("a", ("x", "y")), *more)))
        for more in ((), (StreamSpec("b", ("z",)),))
    )
    torch.nn.init.normal_(old.ld_proj.weight)
    old.missing["a"].data.fill_(2.0)
    old.gates.data.fill_(0.3)
    continue_adapter(new, old)
    assert torch.equal(new.ld_proj.weight[:, :2], old.ld_proj.weight) and new.ld_proj.weight[:, 2].abs().min() > 0
    assert new.gates.item() == pytest.approx(0.3) and (new.missing["a"] == 2).all() and not new.missing["b"].any()


def test_the_larger_recipe_is_whole(repository):
    settings = MiniSettings.load(repository / "recipes" / "train" / "mini-large.toml")
    decoder = MiniTrainer(Path("unused"), settings).build_decoder()
    assert 30e6 < sum(p.numel() for p in decoder.parameters()) < 40e6
    assert settings.adapter["num_layers"] == settings.decoder["num_layers"]


def test_the_recipe_for_a_gpu_makes_the_same_model_from_the_weights_that_ship(repository):
    usual, other = MiniSettings.load(), MiniSettings.load(repository / "recipes" / "train" / "mini-gpu.toml")
    assert (usual.decoder, usual.text, usual.adapter) == (other.decoder, other.text, other.adapter)
    assert usual.follow["start"] == "" and other.follow["start"] == "expotion-mini"
