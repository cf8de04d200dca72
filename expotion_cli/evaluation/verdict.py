"""What an evaluation comes to, in words: one or two sentences for each set."""

from __future__ import annotations

from collections.abc import Sequence

from expotion_cli.evaluation.report import is_beyond_chance
from expotion_cli.evaluation.results import BY_KEY, METRICS, MUSIC, SYNC, Evaluation, Figure, Metric, Row

MOST_NAMED = 3


def verdict(result: Evaluation) -> list[str]:
    """Of each set that was given: what lies above or below chance, and which marks of human-composed music it meets."""
    rows = [row for row in result.rows if row.kind == "outputs"]
    found = []
    for row in rows:
        following = _following(row)
        marks = _marks(row, "It" if following else row.name)
        found.append(" ".join(filter(None, (following, marks))))
    return [sentence for sentence in found if sentence]


def is_below_chance(figure: Figure, metric: Metric) -> bool:
    """Whether the whole interval of the difference from chance lies on the worse side."""
    if figure.lift_interval is None:
        return False
    low, high = figure.lift_interval
    return (metric.better == "higher" and high < 0) or (metric.better == "lower" and low > 0)


def _following(row: Row) -> str:
    figures = {
        key: figure for key, figure in row.figures.items() if BY_KEY[key].group == SYNC and figure.lift is not None
    }
    if not figures:
        return ""
    if all(figure.lift_interval is None for figure in figures.values()):
        return f"{row.name}: too few clips to tell its following from chance; give at least three."
    above = [BY_KEY[key].title for key, figure in figures.items() if is_beyond_chance(figure, BY_KEY[key])]
    below = [BY_KEY[key].title for key, figure in figures.items() if is_below_chance(figure, BY_KEY[key])]
    said = f"better than chance ({_listed(above)})" if above else "no better than chance"
    worse = f", and worse by {_listed(below)}" if below else ""
    return f"{row.name} follows the picture {said}{worse}."


def _marks(row: Row, subject: str) -> str:
    """Which figures of dynamics and pulse lie where those of human-composed music do."""
    inside, outside = [], []
    for metric in METRICS:
        figure = row.figures.get(metric.key)
        if metric.group != MUSIC or figure is None or figure.value is None:
            continue
        name, _, unit = metric.title.partition(", ")
        low, high = _range(metric)
        value = f"{figure.value:.{metric.digits}f}"
        if low <= float(value) <= high:
            inside.append(name)
        else:
            mark = f"{low:g} to {high:g}" if high > low else f"{low:g}"
            outside.append(f"{name} ({f'{value} {unit}'.strip()}, mark {mark})")
    if inside and outside:
        return f"{subject} meets the marks of human-composed music by {_listed(inside)}, but not by {_listed(outside)}."
    if inside:
        return f"{subject} meets the marks of human-composed music by {_listed(inside)}."
    return f"{subject} misses the marks of human-composed music by {_listed(outside)}." if outside else ""


def _range(metric: Metric) -> tuple[float, float]:
    """The mark of a measure, as its `better` states it; holes have none at all."""
    low, to, high = metric.better.partition(" to ")
    return (float(low), float(high)) if to else (0.0, 0.0)


def _listed(names: Sequence[str]) -> str:
    if len(names) > MOST_NAMED:
        return f"{', '.join(names[:MOST_NAMED])} and {len(names) - MOST_NAMED} more"
    return " and ".join(filter(None, (", ".join(names[:-1]), names[-1])))
