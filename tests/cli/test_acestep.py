"""ACE-Step from fetch to finished video, with small random weights from a hub on this machine."""

from __future__ import annotations

import pytest
from local_hub import serving

from expotion_cli.scoring.sidecar import read_sidecar
from expotion_cli.weights.manifest import find_manifest

NAME = "ace-step-1.5-xl-turbo"


def test_ace_step_is_fetched_and_scores_a_clip_that_the_follow_layer_follows(
    expotion, make_video, tmp_path, monkeypatch
):
    pytest.importorskip("diffusers", reason="pip install diffusers (the extra acestep)")
    from tiny_acestep import save_tiny

    folder, listed = save_tiny(tmp_path / "made"), find_manifest(NAME)
    files = {file.name: (folder / file.name).read_bytes() for file in listed.files}
    with serving(files, monkeypatch, listed.repo) as hub:
        hub.revisions[listed.revision] = files
        done = expotion("fetch", NAME)
    assert done.exit_code == 0, done.stderr
    assert "MIT" in done.stderr and "transformer/diffusion_pytorch_model-00002-of-00002.safetensors" in done.stderr
    clip = make_video(tmp_path / "in" / "one.mp4", duration_s=2.5)
    (tmp_path / "hits.csv").write_text("time_s\n1.5\n")
    flags = ("--model", NAME, "--takes", "2", "--streams", "flow", "--lufs", "-30", "--hits", tmp_path / "hits.csv")
    done = expotion("score", clip, *flags, "--out", tmp_path / "out")
    assert done.exit_code == 0, done.stderr
    assert "licence" not in done.stderr, "nothing is forbidden that would have to be said at every run"
    told = read_sidecar(tmp_path / "out" / "one.mp4")
    assert told["model"]["licence"].startswith("MIT") and told["model"]["backbone"] == "diffusers"
    assert told["versions"]["diffusers"] and told["output"]["sample_rate"] == 48_000
    (hit,) = (hit for hit in told["hits"] if hit["cause"] == "user")
    assert abs(hit["answered_s"] - 1.5) < 0.05 and hit["sounds"], "the follow layer answers it"
    again = expotion("score", clip, *flags, "--out", tmp_path / "out", "--dry-run")
    assert "already" in again.stdout, "known without loading it"
    refusals = {"one prompt": ("--prompt", "0-1: calm; 1-: loud"), "no negative prompt": ("--negative-prompt", "drums")}
    for wanted, more in refusals.items():
        done = expotion("score", clip, *flags, *more, "--out", tmp_path / "other")
        assert done.exit_code != 0 and f"{NAME} takes {wanted}" in done.stderr and "Leave" in done.stderr
