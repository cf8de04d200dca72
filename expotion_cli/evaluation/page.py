"""An evaluation as one HTML file: tables, drawn intervals, definitions, settings; it loads nothing from elsewhere."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from expotion_cli.evaluation import report
from expotion_cli.evaluation.results import BY_KEY, GROUPS, Evaluation, Figure, Metric
from expotion_cli.page import render

TEMPLATE = "evaluation.html"
_PLOT_WIDTH, _PLOT_HEIGHT = 110, 14


def write_page(path: str | Path, result: Evaluation, title: str = "Evaluation") -> Path:
    """Write the page.

    Args:
        path: of the file.
        result: of the evaluation.
        title: of the page.

    Raises:
        OutputError: it can't be written.
    """
    return render.write_page(path, TEMPLATE, _values(result, title))


def page(result: Evaluation, title: str) -> str:
    """The page's HTML."""
    return render.render(TEMPLATE, _values(result, title))


def _values(result: Evaluation, title: str) -> dict[str, Any]:
    """What the template shows."""
    compared = report.comparisons(result, width=None)
    return {
        "title": title,
        "legend": report.LEGEND,
        "said": [*result.notes, *(str(failure) for failure in result.failures), *report.not_measured(result)],
        "groups": [found for group in GROUPS if (found := _group(result, group))],
        "baseline": result.baseline,
        "beside": report.beside(result) if compared else "",
        "compared": compared,
        "metrics": [BY_KEY[key] for group in GROUPS for key in result.keys(group)],
        "by_clip": _by_clip(result),
        "settings": json.dumps(result.settings, indent=2, ensure_ascii=False),
        "plot": {"width": _PLOT_WIDTH, "height": _PLOT_HEIGHT},
    }


def _group(result: Evaluation, group: str) -> dict[str, Any]:
    keys = [k for k in result.keys(group) if any(_has(row.figures.get(k)) for row in result.rows)]
    if not keys:
        return {}
    spans = {key: _span(result, key) for key in keys}
    rows = [
        {
            "name": row.name,
            "kind": row.kind,
            "clips": len(row.clips),
            "cells": [_cell(row.figures.get(key), BY_KEY[key], spans[key]) for key in keys],
        }
        for row in result.rows
        if any(_has(row.figures.get(key)) for key in keys)
    ]
    return {"title": GROUPS[group], "metrics": [BY_KEY[key] for key in keys], "rows": rows}


def _cell(figure: Figure | None, metric: Metric, span: tuple[float, float]) -> dict[str, Any]:
    if figure is None or figure.value is None:
        return {"missing": (figure.missing or "") if figure is not None else ""}
    digits = metric.digits
    star = "*" if report.is_beyond_chance(figure, metric) else ""
    return {
        "value": f"{figure.value:.{digits}f}{star}",
        "range": "{:.{d}f} to {:.{d}f}".format(*figure.interval, d=digits) if figure.interval is not None else "",
        "chance": f"{figure.chance:.{digits}f}" if figure.chance is not None else "",
        "plot": _plot(figure, span),
    }


def _plot(figure: Figure, span: tuple[float, float]) -> dict[str, Any]:
    """Where a figure's marks stand, in pixels from the left."""
    low, high = span
    scale = (_PLOT_WIDTH - 8) / (high - low) if high > low else 0.0

    def place(value: float) -> float:
        return round(4 + (value - low) * scale, 1)

    return {
        "value": place(figure.value or 0.0),
        "chance": place(figure.chance) if figure.chance is not None else None,
        "interval": [place(edge) for edge in figure.interval] if figure.interval is not None else None,
    }


def _span(result: Evaluation, key: str) -> tuple[float, float]:
    values = []
    for row in result.rows:
        figure = row.figures.get(key)
        if figure is not None and figure.value is not None:
            values += [v for v in (figure.value, figure.chance, *(figure.interval or ())) if v is not None]
    return min(values), max(values)


def _by_clip(result: Evaluation) -> list[dict[str, Any]]:
    tables = []
    for row in result.rows:
        keys = [key for key, figure in row.figures.items() if figure.by_clip]
        if keys:
            rows = [
                [clip, *(_number(row.figures[key].by_clip.get(clip), BY_KEY[key].digits) for key in keys)]
                for clip in row.clips
            ]
            tables.append({"titles": [row.name, *(BY_KEY[key].title for key in keys)], "rows": rows})
    return tables


def _number(value: float | None, digits: int) -> str:
    return "-" if value is None else f"{value:.{digits}f}"


def _has(figure: Figure | None) -> bool:
    return figure is not None and figure.value is not None
