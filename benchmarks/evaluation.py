"""How closely music follows, beside what others made for the same clips: the tables of docs/evaluation.md.

Scores the clips with the embedded model, measures them beside the reference scores (one folder a system, sound files
named like the clips), and takes the conditioning apart. Writes benchmarks/results/evaluation.json, and the tables
between the markers in docs/evaluation.md.

    python benchmarks/evaluation.py [--clips DIR] [--scores DIR] [--seeds 2] [--no-ablation]
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
from dataclasses import replace
from pathlib import Path
from typing import Any

from bench import RESULTS, machine, put_into, write_results

from expotion_cli.evaluation import ablation, report
from expotion_cli.evaluation.measuring import PLAIN, MeasureOptions
from expotion_cli.evaluation.results import MUSIC, SYNC, Evaluation
from expotion_cli.evaluation.running import Sources, evaluate_files
from expotion_cli.vision.cache import EmbeddingCache

REPOSITORY = RESULTS.parent.parent
PAGE = REPOSITORY / "docs" / "evaluation.md"
BASELINE = "baseline_musicgen"
OURS = "expotion-mini"
FOLLOWING = ("correlation", "ranking", "hits", "swell")
BEATS = ("coverage", "hit", "f1", "coverage_1s", "hit_1s", "alignment", "alignment_music")


def score(clips: Path, recipe: str, out: Path) -> None:
    """Score the clips as a user would."""
    command = [sys.executable, "-c", "from expotion_cli.cli import score_main; score_main()", str(clips)]
    subprocess.run([*command, "--recipe", recipe, "--out", str(out), "--midi", "--quiet"], check=True)


def tables(evaluation: Evaluation, plain: Evaluation, ablated: Evaluation | None) -> dict[str, str]:
    """Marker → the Markdown between it and its end."""
    found = {
        "following": report.markdown(evaluation, SYNC, FOLLOWING),
        "beats": report.markdown(evaluation, SYNC, BEATS),
        "plain": report.markdown(plain, SYNC, ("correlation", "ranking")),
        "music": report.markdown(evaluation, MUSIC),
        "quality": report.markdown(evaluation, "quality"),
        "notes": report.markdown(evaluation, "notes"),
        "missing": "\n".join(f"- {line}" for line in report.not_measured(evaluation)),
    }
    if ablated is not None:
        found["ablation"] = report.markdown(ablated, SYNC, FOLLOWING)
        found["ablation-music"] = report.markdown(ablated, MUSIC)
        found["ablation-notes"] = report.markdown(ablated, "notes")
    return found


def earlier_ablation() -> Any:
    """What the last run with an ablation found: its tables stay on the page, so its figures stay on record."""
    path = RESULTS / "evaluation.json"
    return json.loads(path.read_text(encoding="utf-8"))["ablation"] if path.is_file() else None


def main() -> None:
    """Score, measure, take apart, write."""
    shared = REPOSITORY.parent / "shared"
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--clips", type=Path, default=Path(os.environ.get("EXPOTION_REAL_CLIPS") or shared / "clips"))
    parser.add_argument("--scores", type=Path, default=shared / "reference-scores")
    parser.add_argument("--recipe", default="cinematic")
    parser.add_argument("--seeds", type=int, default=2, help="takes of each clip when the conditioning is taken apart")
    parser.add_argument("--no-ablation", action="store_true")
    parser.add_argument("--weights", type=Path, help="of CLAP and AST")
    options = parser.parse_args()
    facts, cache = machine(), EmbeddingCache()
    from expotion_cli.evaluation.pretrained import WeightsSource
    from expotion_cli.music.load import load_model

    systems = sorted(path for path in options.scores.iterdir() if path.is_dir())
    # Only what everybody scored can be compared.
    clips = [path for path in sorted(options.clips.glob("*.mp4")) if list(options.scores.glob(f"*/{path.stem}.*"))]
    measures = MeasureOptions(weights=WeightsSource(options.weights))
    with tempfile.TemporaryDirectory(prefix="expotion-evaluation-") as folder:
        score(options.clips, options.recipe, Path(folder))
        sets = [*((path.name, path) for path in systems), (OURS, Path(folder))]
        results = {}
        for motion in ("flow", PLAIN):
            baseline = BASELINE if any(name == BASELINE for name, _ in sets) else None
            sources = Sources(clips=clips, outputs=sets, reference=baseline, motion=motion)
            asked = replace(measures, groups=measures.groups if motion == "flow" else (SYNC,), baseline=baseline)
            results[motion] = evaluate_files(sources, asked, cache=cache)
    ablated = None
    if not options.no_ablation:
        plan = ablation.Plan(clips=[options.clips], recipe=options.recipe, seeds=options.seeds)
        ablated = ablation.ablate(plan, measures, load_model, cache=cache)
    for result in (results["flow"], ablated):
        print(report.text(result) if result is not None else "", end="\n\n")
    made = tables(results["flow"], results[PLAIN], ablated)
    record: dict[str, Any] = {"machine": facts, "evaluation": report.as_record(results["flow"])}
    record["plain_motion"] = report.as_record(results[PLAIN])
    record["ablation"] = report.as_record(ablated) if ablated is not None else earlier_ablation()
    record["model"] = load_model().digest
    write_results("evaluation", record)
    put_into(PAGE, made)
    print(f"written: {os.path.relpath(PAGE)}")


if __name__ == "__main__":
    main()
