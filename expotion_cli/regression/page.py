"""A check as a page with both sounds, spectrograms and loudness; a folder that needs no network."""

from __future__ import annotations

from html import escape
from pathlib import Path

from expotion_cli.errors import writing
from expotion_cli.media.flac import write_flac
from expotion_cli.regression import plots, report
from expotion_cli.regression.checking import CheckResult, ClipCheck
from expotion_cli.regression.measures import Sound, Tolerance
from expotion_cli.storage import write_bytes

INDEX = "index.html"

_STYLE = """
:root { color-scheme: light dark; --page: #f6f6f4; --card: #fff; --text: #1d1d1f; --dim: #6a6a70; --line: #dcdcd8;
  --same: #2c7a4b; --drift: #b3372f; --error: #8a5a00; --one: #6a6a70; --two: #b3372f; }
@media (prefers-color-scheme: dark) { :root { --page: #16171a; --card: #1f2125; --text: #ececef; --dim: #9a9ca4;
  --line: #34373d; --same: #6cc492; --drift: #f0837b; --error: #e0b25a; --one: #a8abb4; --two: #f0837b; } }
* { box-sizing: border-box; }
body { margin: 0 auto; max-width: 62rem; padding: 2rem 1rem 4rem; background: var(--page); color: var(--text);
  font: 16px/1.5 system-ui, sans-serif; }
h1 { font-size: 1.5rem; margin: 0 0 .25rem; } h2 { font-size: 1.05rem; margin: 0; display: inline; }
p { margin: .3rem 0; } .dim, th, figcaption { color: var(--dim); }
details { background: var(--card); border: 1px solid var(--line); border-radius: .6rem; margin-top: 1rem;
  padding: .75rem 1rem; }
summary { cursor: pointer; } summary .chip { float: right; }
.chip { font-weight: 600; }
.same { color: var(--same); } .drift { color: var(--drift); } .error { color: var(--error); }
ul { margin: .6rem 0; padding-left: 1.2rem; } li { overflow-wrap: anywhere; }
.players { display: grid; grid-template-columns: 1fr 1fr auto; gap: .75rem; align-items: end; margin: .75rem 0; }
.players audio { width: 100%; height: 2.4rem; } .players label { font-size: .85rem; color: var(--dim); }
button { font: inherit; padding: .35rem .8rem; border: 1px solid var(--line); border-radius: .4rem;
  background: var(--page); color: inherit; cursor: pointer; }
table { border-collapse: collapse; width: 100%; font-variant-numeric: tabular-nums; margin: .5rem 0; }
th, td { text-align: right; padding: .2rem .6rem; border-bottom: 1px solid var(--line); font-weight: 400; }
th:first-child, td:first-child { text-align: left; } td { white-space: nowrap; }
td.of { white-space: normal; text-align: left; color: var(--dim); font-size: .85rem; }
td.beyond { color: var(--drift); font-weight: 600; }
figure { margin: .75rem 0; } figcaption { font-size: .85rem; } figure img { width: 100%; height: 7.5rem; display: block;
  border-radius: .3rem; image-rendering: auto; border: 1px solid var(--line); }
svg.loudness { width: 100%; height: auto; display: block; border: 1px solid var(--line); border-radius: .3rem; }
svg.loudness line { stroke: var(--line); } svg.loudness text { fill: var(--dim); font-size: 11px; }
svg.loudness polyline { fill: none; stroke-width: 1.6; }
polyline.reference { stroke: var(--one); } polyline.new { stroke: var(--two); stroke-dasharray: 5 2; }
.key-one { color: var(--one); } .key-two { color: var(--two); }
@media (max-width: 40rem) { .players { grid-template-columns: 1fr; } }
"""

_SCRIPT = """
for (const players of document.querySelectorAll('.players')) {
  const [one, two] = players.querySelectorAll('audio');
  const other = player => player === one ? two : one;
  for (const player of [one, two]) player.addEventListener('play', () => {
    for (const each of document.querySelectorAll('audio')) if (each !== player) each.pause();
  });
  players.querySelector('button').addEventListener('click', () => {
    const from = two.paused ? one : two, to = other(from), at = from.currentTime;
    from.pause(); to.currentTime = at; to.play();
  });
}
"""


def write_page(folder: str | Path, result: CheckResult) -> Path:
    """Write the page and the files it needs; returns the page's path.

    Args:
        folder: made if missing; files of an earlier page are replaced.
        result: of a check.

    Raises:
        OutputError: it can't be written.
    """
    folder = Path(folder)
    with writing(folder, "the page"):
        cards = [_card(folder, number, clip, result) for number, clip in enumerate(result.clips, 1)]
        path = folder / INDEX
        write_bytes(path, _page(result, cards).encode("utf-8", "replace"))
    return path


def _page(result: CheckResult, cards: list[str]) -> str:
    name = escape(result.folder.name or str(result.folder))
    lines = "".join(f"<p class=dim>{escape(line)}</p>" for line in [*report.machine_lines(result), *result.notes])
    return (
        f'<!doctype html>\n<html lang="en"><head><meta charset="utf-8"><title>{name}: regression renders</title>'
        f'<meta name="viewport" content="width=device-width"><style>{_STYLE}</style></head><body>'
        f"<h1>Regression renders: {name}</h1><p>{escape(report.summary(result))}</p>{lines}{''.join(cards)}"
        f"<script>{_SCRIPT}</script></body></html>\n"
    )


def _card(folder: Path, number: int, clip: ClipCheck, result: CheckResult) -> str:
    parts = [f'<summary><h2>{escape(clip.name)}</h2><span class="chip {clip.status}">{clip.status}</span></summary>']
    said = report.causes(clip)
    if said:
        parts.append("<ul>" + "".join(f"<li>{escape(line)}</li>" for line in said) + "</ul>")
    if clip.reference is not None and clip.new is not None:
        parts.append(_players(folder, number, clip.reference, clip.new))
        parts.append(_measures(clip, result))
        parts.append(_pictures(folder, number, clip.reference, clip.new))
    return f"<details{'' if clip.status == 'same' else ' open'}>{''.join(parts)}</details>"


def _players(folder: Path, number: int, reference: Sound, new: Sound) -> str:
    cells = []
    for sound, kind in ((reference, "reference"), (new, "new")):
        file = f"clip-{number}-{kind}.flac"
        write_flac(folder / file, sound.samples, sound.sample_rate)
        cells.append(f'<div><label>{kind}</label><audio controls preload="metadata" src="{file}"></audio></div>')
    button = '<button type="button" title="Continue with the other one at the same time">⇄ switch</button>'
    return f'<div class="players">{"".join(cells)}{button}</div>'


def _measures(clip: ClipCheck, result: CheckResult) -> str:
    rows = []
    for name, value in clip.distances.items():
        tolerance: Tolerance = result.tolerances[name]
        mark = ' class="beyond"' if name in clip.beyond else ""
        limit = f"{tolerance.limit:g} {tolerance.unit}"
        rows.append(
            f"<tr><td>{name}</td><td{mark}>{report.value_text(tolerance, value)}</td><td>{limit}</td>"
            f'<td class="of">{escape(tolerance.title)}</td></tr>'
        )
    head = "<tr><th>measure</th><th>distance</th><th>tolerance</th><th></th></tr>"
    return f"<table>{head}{''.join(rows)}</table>"


def _pictures(folder: Path, number: int, reference: Sound, new: Sound) -> str:
    found = []
    made = (
        ("reference", "reference: mel spectrogram, 40 Hz to 16 kHz", plots.spectrogram(reference)),
        ("new", "new", plots.spectrogram(new)),
        ("difference", "difference: red is louder now, blue quieter", plots.difference(reference, new)),
    )
    for kind, words, content in made:
        file = f"clip-{number}-{kind}.png"
        write_bytes(folder / file, content)
        found.append(f'<figure><figcaption>{words}</figcaption><img src="{file}" alt="{words}"></figure>')
    curves = plots.loudness(reference, new)
    words = 'loudness of each 0.4 s in LUFS: <span class="key-one">reference</span>, <span class="key-two">new</span>'
    return f"{''.join(found)}<figure><figcaption>{words}</figcaption>{curves}</figure>"
