"""An evaluation as text, as JSON values and as Markdown."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from expotion_cli.evaluation.results import BY_KEY, FORMAT, GROUPS, Evaluation, Figure, Metric, Row, rounded

WIDTH = 132
LEGEND = "value (95 % interval over clips) [chance level]; * better than chance by the interval of the difference"


def cell(figure: Figure | None, metric: Metric, *, short: bool = False) -> str:
    """One figure: value (interval) [chance], and a star where it is better than chance.

    Args:
        figure: None for a set that lacks it.
        metric: which measure it is.
        short: leave the interval out.
    """
    if figure is None or figure.value is None:
        return "-"
    digits = metric.digits
    parts = [f"{figure.value:.{digits}f}{'*' if is_beyond_chance(figure, metric) else ''}"]
    if figure.interval is not None and not short:
        parts.append("({:.{d}f} to {:.{d}f})".format(*figure.interval, d=digits))
    if figure.chance is not None:
        parts.append(f"[{figure.chance:.{digits}f}]")
    return " ".join(parts)


def is_beyond_chance(figure: Figure, metric: Metric) -> bool:
    """Whether the whole interval of the difference from chance lies on the better side."""
    if figure.lift_interval is None:
        return False
    low, high = figure.lift_interval
    return (metric.better == "higher" and low > 0) or (metric.better == "lower" and high < 0)


def absences(result: Evaluation, group: str) -> dict[str, list[str]]:
    """Why measures of a group are missing → their titles, where no set has them."""
    found: dict[str, list[str]] = {}
    for key in result.keys(group):
        figures = [row.figures[key] for row in result.rows if key in row.figures]
        if all(figure.missing is not None for figure in figures):
            for reason in dict.fromkeys(figure.missing or "" for figure in figures):
                found.setdefault(reason, []).append(BY_KEY[key].title)
    return found


def blocks(result: Evaluation, width: int | None = WIDTH) -> Iterator[tuple[str, list[str], list[list[str]]]]:
    """(group, titles, rows) of tables not wider than `width` characters; rows begin with the set's name and clips."""
    for group in GROUPS:
        keys = [k for k in result.keys(group) if any(_measured(row.figures.get(k)) for row in result.rows)]
        rows = [row for row in result.rows if any(_measured(row.figures.get(k)) for k in keys)]
        columns = [[BY_KEY[k].title, *(cell(row.figures.get(k), BY_KEY[k]) for row in rows)] for k in keys]
        first = [["set", *(row.name for row in rows)], ["clips", *(_count(row) for row in rows)]]
        for titles, lines in _chunks(first, columns, width):
            yield group, titles, lines


def text(result: Evaluation) -> str:
    """The result for a terminal."""
    lines: list[str] = []
    last = None
    for group, titles, rows in blocks(result):
        lines += ["", *([GROUPS[group]] if group != last else []), *_lay(titles, rows)]
        last = group
    if absent := not_measured(result):
        lines += ["", *absent]
    if compared := comparisons(result):
        lines += [
            "",
            beside(result),
        ]
        for titles, rows in compared:
            lines += [*_lay(titles, rows), ""]
    return "\n".join([*lines, "", LEGEND]).strip("\n").replace("\n\n\n", "\n\n")


def _lay(titles: Sequence[str], rows: Sequence[Sequence[str]]) -> list[str]:
    widths = [max(len(row[column]) for row in (titles, *rows)) for column in range(len(titles))]
    lines = []
    for row in (titles, *rows):
        padded = [row[0].ljust(widths[0]), *(c.rjust(w) for c, w in zip(row[1:], widths[1:], strict=True))]
        lines.append(("  " + "  ".join(padded)).rstrip())
    return lines


def not_measured(result: Evaluation) -> list[str]:
    """A line for each reason why measures are missing."""
    found: dict[str, list[str]] = {}
    for group in GROUPS:
        for reason, titles in absences(result, group).items():
            found.setdefault(reason, []).extend(titles)
    return [f"not measured: {', '.join(dict.fromkeys(titles))}: {reason}" for reason, titles in found.items()]


def beside(result: Evaluation) -> str:
    """The heading of `comparisons`."""
    rows = [figure.against for row in result.rows for figure in row.figures.values() if figure.against]
    ratio = ", × ratio of the means" if any("ratio" in against for against in rows) else ""
    zero = "0 (of a ratio 1)" if ratio else "0"
    return (
        f"Beside {result.baseline}, clip by clip: mean difference{ratio} (95 % interval); "
        f"* the interval leaves {zero} out"
    )


def comparisons(result: Evaluation, width: int | None = WIDTH) -> list[tuple[list[str], list[list[str]]]]:
    """(titles, rows) of tables of what lies between the sets and the baseline, measure by measure."""
    keys = [k for group in GROUPS for k in result.keys(group) if any(_difference(row, k) for row in result.rows)]
    rows = [row for row in result.rows if any(_difference(row, k) for k in keys)]
    columns = [[BY_KEY[k].title, *(_difference(row, k) or "-" for row in rows)] for k in keys]
    return [(titles, lines) for titles, lines in _chunks([["set", *(row.name for row in rows)]], columns, width)]


def _difference(row: Row, key: str) -> str:
    figure = row.figures.get(key)
    if figure is None or figure.against is None:
        return ""
    if "ratio" in figure.against:
        return _ratio(figure.against)
    digits, text = BY_KEY[key].digits, f"{figure.against['mean']:+.{BY_KEY[key].digits}f}"
    if figure.against["interval"] is None:
        return text
    low, high = figure.against["interval"]
    return f"{text}{'*' if low > 0 or high < 0 else ''} ({low:+.{digits}f} to {high:+.{digits}f})"


def _ratio(against: Mapping[str, Any]) -> str:
    if against["interval"] is None:
        return f"×{against['ratio']:.2f}"
    low, high = against["interval"]
    return f"×{against['ratio']:.2f}{'*' if low > 1 or high < 1 else ''} (×{low:.2f} to ×{high:.2f})"


def _chunks(
    first: list[list[str]], columns: list[list[str]], width: int | None
) -> Iterator[tuple[list[str], list[list[str]]]]:
    while columns:
        taken = 1
        while taken < len(columns) and (width is None or _width([*first, *columns[: taken + 1]]) <= width):
            taken += 1
        chosen, columns = [*first, *columns[:taken]], columns[taken:]
        lines = [list(line) for line in zip(*chosen, strict=True)]
        yield lines[0], lines[1:]


def markdown(result: Evaluation, group: str, keys: Sequence[str] | None = None) -> str:
    """A group's figures as one Markdown table."""
    keys = [k for k in keys or result.keys(group) if any(_measured(row.figures.get(k)) for row in result.rows)]
    lines = ["| set | clips | " + " | ".join(BY_KEY[k].title for k in keys) + " |", "|---" * (len(keys) + 2) + "|"]
    for row in result.rows:
        if any(_measured(row.figures.get(k)) for k in keys):
            cells = [cell(row.figures.get(k), BY_KEY[k]) for k in keys]
            lines.append(f"| {row.name} | {_count(row)} | " + " | ".join(cells) + " |")
    return "\n".join(lines)


def as_record(result: Evaluation) -> dict[str, Any]:
    """Plain JSON values."""
    keys = list(dict.fromkeys(key for group in GROUPS for key in result.keys(group)))
    return {
        "format": FORMAT,
        "exit_code": result.exit_code,
        "settings": dict(result.settings),
        "baseline": result.baseline,
        "metrics": {
            key: {
                "group": BY_KEY[key].group,
                "title": BY_KEY[key].title,
                "better": BY_KEY[key].better,
                "chance": BY_KEY[key].chance,
                "about": BY_KEY[key].about,
                "source": BY_KEY[key].source,
            }
            for key in keys
        },
        "clips": {name: {key: rounded(v) for key, v in facts.items()} for name, facts in result.clips.items()},
        "sets": [
            {
                "name": row.name,
                "kind": row.kind,
                "clips": list(row.clips),
                "pieces": row.cues,
                "figures": {key: row.figures[key].record() for key in keys if key in row.figures},
            }
            for row in result.rows
        ],
        "notes": list(result.notes),
        "failed": [
            {"reason": e.reason, "path": str(e.path) if e.path else None, "remedy": e.remedy} for e in result.failures
        ],
    }


def _measured(figure: Figure | None) -> bool:
    return figure is not None and figure.value is not None


def _count(row: Row) -> str:
    clips = len(row.clips)
    return str(clips) if row.cues == clips else f"{clips} × {row.cues / clips:g}"


def _width(columns: Sequence[Sequence[str]]) -> int:
    return 2 + sum(max(map(len, column)) for column in columns) + 2 * (len(columns) - 1)
