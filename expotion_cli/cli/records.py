"""What `expotion-score` prints as JSON."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from expotion_cli.cli.say import error_record

if TYPE_CHECKING:
    from expotion_cli.scoring.account import Summary
    from expotion_cli.scoring.ahead import Ahead
    from expotion_cli.scoring.plan import Job, Plan
    from expotion_cli.scoring.standing import Standing


def plan_record(planned: Plan, found: Mapping[str, Standing], ahead: Mapping[str, Ahead]) -> dict[str, Any]:
    """What `--dry-run --json` says.

    Args:
        planned: all clips.
        found: the fate of each.
        ahead: what is known of those that will be scored.
    """
    from expotion_cli.scoring.takes.layout import takes_folder

    called = planned.files.called
    jobs = [
        {
            "clip": job.name,
            "would": found[job.name].verdict,
            "path": called(job.clip.path),
            "output": called(job.destination),
            **({"beside": beside} if (beside := planned.settings.extras.shown(job.destination)) else {}),
            "duration_s": round(float(job.clip.duration), 3),
            "prompt": job.prompt,
            "seed": job.seed,
            "plan": job.given.plan_file,
            **({"redo": found[job.name].said} if found[job.name].said else {}),
            **(_ahead_record(ahead[job.name], called) if job.name in ahead else {}),
            **({"markers": [called(path) for path in lacking]} if (lacking := _lacking(job, found[job.name])) else {}),
            **({"takes": called(takes_folder(job.destination))} if planned.settings.keep_takes else {}),
            **({"error": error_record(error)} if (error := found[job.name].error) is not None else {}),
        }
        for job in planned.jobs
    ]
    failed = [
        {"clip": problem.name, "error": error_record(problem.error)} for problem in planned.problems if problem.error
    ]
    return {"recipe": planned.recipe.name, "out": called(planned.settings.out), "clips": jobs, "failed": failed}


def _lacking(job: Job, standing: Standing) -> list[Path]:
    """Marker files that a finished result lacks."""
    return [job.destination.with_suffix(f".{kind}") for kind in standing.lacking]


def _ahead_record(ahead: Ahead, called: Callable[[Path], str]) -> dict[str, Any]:
    plan = ahead.plan
    known = None
    if plan is not None:
        known = {
            "tempo": {"bpm": round(float(plan.tempo.bpm), 3), "confidence": round(plan.tempo.confidence, 3)},
            "metre": plan.tempo.metre,
            "key": ahead.key or None,
            "hits": len(plan.hits),
            "cuts": len(plan.cuts),
            "sections": len(plan.sections),
        }
    times = {phase: None if value is None else round(value, 1) for phase, value in ahead.estimate_s.items()}
    return {
        "cue_plan": known,
        "cached": {"streams": ahead.is_seen, "cue": ahead.is_composed},
        "estimate_s": times,
        "markers": [called(path) for path in ahead.markers],
    }


def summary_record(summary: Summary, planned: Plan) -> dict[str, Any]:
    """What `--json` says at the end."""
    from expotion_cli.scoring.sidecar import sidecar_path

    called = planned.files.called
    paths = {job.name: called(job.clip.path) for job in planned.jobs}
    rows = []
    for result in summary.results:
        row: dict[str, Any] = {"clip": result.name, "status": result.status}
        if result.name in paths:
            row["path"] = paths[result.name]
        if result.output is not None:
            row |= {"output": called(result.output), "sidecar": called(sidecar_path(result.output))}
            row |= {key: (result.sidecar or {}).get(key) for key in ("prompt", "seed", "tempo", "loudness", "notes")}
            row |= {key: result.sidecar[key] for key in ("redone",) if result.sidecar and key in result.sidecar}
        if result.error is not None:
            row["error"] = error_record(result.error)
        rows.append(row)
    return {
        "exit_code": summary.exit_code,
        "out": called(planned.settings.out),
        "recipe": {"name": planned.recipe.name, "digest": planned.recipe.digest},
        "duration_s": summary.duration_s,
        "counts": {status: summary.count(status) for status in ("scored", "already", "refused", "failed")},
        "clips": rows,
    }
