"""An evaluation as one HTML file: tables, drawn intervals, definitions, settings; it loads nothing from elsewhere."""

from __future__ import annotations

import json
from html import escape
from pathlib import Path

from expotion_cli.errors import writing
from expotion_cli.evaluation import report
from expotion_cli.evaluation.results import BY_KEY, GROUPS, Evaluation, Figure, Metric
from expotion_cli.storage import write_bytes

_STYLE = """
:root { color-scheme: light dark; --page: #f6f6f4; --card: #fff; --text: #1d1d1f; --dim: #6a6a70; --line: #dcdcd8;
  --mark: #2457a6; --chance: #b3372f; }
@media (prefers-color-scheme: dark) { :root { --page: #16171a; --card: #1f2125; --text: #ececef; --dim: #9a9ca4;
  --line: #34373d; --mark: #8ab4f8; --chance: #f0837b; } }
* { box-sizing: border-box; }
body { margin: 0 auto; max-width: 74rem; padding: 2rem 1rem 4rem; background: var(--page); color: var(--text);
  font: 16px/1.5 system-ui, sans-serif; }
h1 { font-size: 1.5rem; margin: 0 0 .25rem; } h2 { font-size: 1.15rem; margin: 2rem 0 .5rem; }
.dim, th, .range, .chance { color: var(--dim); } .chance { color: var(--chance); }
.scroll { overflow-x: auto; background: var(--card); border: 1px solid var(--line); border-radius: .6rem; }
table { border-collapse: collapse; width: 100%; font-variant-numeric: tabular-nums; }
th, td { text-align: right; padding: .35rem .7rem; border-bottom: 1px solid var(--line); font-weight: 400;
  white-space: nowrap; vertical-align: top; }
th:first-child, td:first-child, td.words { text-align: left; } td.words { white-space: normal; }
tr.yardstick td { font-style: italic; } .range, .chance { font-size: .8rem; display: block; }
td svg { display: block; margin-left: auto; } svg line { stroke: var(--mark); stroke-width: 2; }
svg circle { fill: var(--mark); } svg line.chance { stroke: var(--chance); }
details { margin-top: 1.5rem; } summary { cursor: pointer; } pre { overflow-x: auto; font-size: .85rem; }
li { overflow-wrap: anywhere; }
"""
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
    path = Path(path)
    with writing(path, "the page"):
        write_bytes(path, page(result, title).encode("utf-8", "replace"))
    return path


def page(result: Evaluation, title: str) -> str:
    """The page's HTML."""
    parts = [f"<h1>{escape(title)}</h1><p class=dim>{escape(report.LEGEND)}.</p>"]
    said = [*result.notes, *(str(failure) for failure in result.failures), *report.not_measured(result)]
    if said:
        parts.append("<ul>" + "".join(f"<li>{escape(line)}</li>" for line in said) + "</ul>")
    parts += [_group(result, group) for group in GROUPS]
    if compared := report.comparisons(result, width=None):
        parts.append(f"<h2>Beside {escape(str(result.baseline))}</h2><p class=dim>{escape(report.beside(result))}.</p>")
        parts += [_plain(titles, rows) for titles, rows in compared]
    parts += [_definitions(result), _by_clip(result)]
    settings = json.dumps(result.settings, indent=2, ensure_ascii=False)
    parts.append(f"<details><summary>Settings</summary><pre>{escape(settings)}</pre></details>")
    return (
        f'<!doctype html>\n<html lang="en"><head><meta charset="utf-8"><title>{escape(title)}</title>'
        f'<meta name="viewport" content="width=device-width"><style>{_STYLE}</style></head>'
        f"<body>{''.join(parts)}</body></html>\n"
    )


def _group(result: Evaluation, group: str) -> str:
    keys = [k for k in result.keys(group) if any(_has(row.figures.get(k)) for row in result.rows)]
    if not keys:
        return ""
    spans = {key: _span(result, key) for key in keys}
    head = "".join(f'<th title="{escape(BY_KEY[key].about)}">{escape(BY_KEY[key].title)}</th>' for key in keys)
    body = []
    for row in result.rows:
        if any(_has(row.figures.get(key)) for key in keys):
            cells = "".join(_cell(row.figures.get(key), BY_KEY[key], spans[key]) for key in keys)
            body.append(f'<tr class="{row.kind}"><td>{escape(row.name)}</td><td>{len(row.clips)}</td>{cells}</tr>')
    table = f"<table><tr><th>set</th><th>clips</th>{head}</tr>{''.join(body)}</table>"
    return f'<h2>{GROUPS[group]}</h2><div class="scroll">{table}</div>'


def _plain(titles: list[str], rows: list[list[str]]) -> str:
    head = "".join(f"<th>{escape(title)}</th>" for title in titles)
    body = "".join("<tr>" + "".join(f"<td>{escape(text)}</td>" for text in row) + "</tr>" for row in rows)
    return f'<div class="scroll"><table><tr>{head}</tr>{body}</table></div>'


def _cell(figure: Figure | None, metric: Metric, span: tuple[float, float]) -> str:
    if figure is None or figure.value is None:
        reason = escape(figure.missing or "") if figure is not None else ""
        return f'<td title="{reason}">-</td>'
    digits = metric.digits
    star = "*" if report.is_beyond_chance(figure, metric) else ""
    parts = [f"{figure.value:.{digits}f}{star}"]
    if figure.interval is not None:
        parts.append('<span class="range">{:.{d}f} to {:.{d}f}</span>'.format(*figure.interval, d=digits))
    if figure.chance is not None:
        parts.append(f'<span class="chance">chance {figure.chance:.{digits}f}</span>')
    return f"<td>{''.join(parts)}{_plot(figure, span)}</td>"


def _plot(figure: Figure, span: tuple[float, float]) -> str:
    low, high = span
    scale = (_PLOT_WIDTH - 8) / (high - low) if high > low else 0.0

    def place(value: float) -> float:
        return round(4 + (value - low) * scale, 1)

    middle, marks = _PLOT_HEIGHT / 2, []
    if figure.chance is not None:
        x = place(figure.chance)
        marks.append(f'<line class="chance" x1="{x}" x2="{x}" y1="1" y2="{_PLOT_HEIGHT - 1}"/>')
    if figure.interval is not None:
        left, right = (place(edge) for edge in figure.interval)
        marks.append(f'<line x1="{left}" x2="{right}" y1="{middle}" y2="{middle}"/>')
    marks.append(f'<circle cx="{place(figure.value or 0.0)}" cy="{middle}" r="3.5"/>')
    size = f'width="{_PLOT_WIDTH}" height="{_PLOT_HEIGHT}" viewBox="0 0 {_PLOT_WIDTH} {_PLOT_HEIGHT}"'
    return f'<svg {size} aria-hidden="true">{"".join(marks)}</svg>'


def _span(result: Evaluation, key: str) -> tuple[float, float]:
    values = []
    for row in result.rows:
        figure = row.figures.get(key)
        if figure is not None and figure.value is not None:
            values += [v for v in (figure.value, figure.chance, *(figure.interval or ())) if v is not None]
    return min(values), max(values)


def _definitions(result: Evaluation) -> str:
    rows = []
    for group in GROUPS:
        for key in result.keys(group):
            metric = BY_KEY[key]
            words = (metric.title, metric.about, metric.better, metric.chance, metric.source)
            rows.append("<tr>" + "".join(f'<td class="words">{escape(word)}</td>' for word in words) + "</tr>")
    head = "<tr><th>measure</th><th>what it is</th><th>better</th><th>in brackets</th><th>after</th></tr>"
    return f'<h2>Definitions</h2><div class="scroll"><table>{head}{"".join(rows)}</table></div>'


def _by_clip(result: Evaluation) -> str:
    parts = []
    for row in result.rows:
        keys = [key for key, figure in row.figures.items() if figure.by_clip]
        if not keys:
            continue
        head = "".join(f"<th>{escape(BY_KEY[key].title)}</th>" for key in keys)
        body = []
        for clip in row.clips:
            cells = "".join(_number(row.figures[key].by_clip.get(clip), BY_KEY[key].digits) for key in keys)
            body.append(f"<tr><td>{escape(clip)}</td>{cells}</tr>")
        table = f"<table><tr><th>{escape(row.name)}</th>{head}</tr>{''.join(body)}</table>"
        parts.append(f'<div class="scroll">{table}</div>')
    return f"<details><summary>Clip by clip</summary>{'<br>'.join(parts)}</details>" if parts else ""


def _number(value: float | None, digits: int) -> str:
    return "<td>-</td>" if value is None else f"<td>{value:.{digits}f}</td>"


def _has(figure: Figure | None) -> bool:
    return figure is not None and figure.value is not None
