"""The report: every result of a folder on one page to play, compare and choose from."""

from __future__ import annotations

import shlex
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from expotion_cli.page import render
from expotion_cli.report.facts import Facts, finite
from expotion_cli.report.licences import forbids_sale
from expotion_cli.report.looking import Look
from expotion_cli.report.results import FAILED, FOREIGN, REFUSED, STATUSES, UNFINISHED, Collection, Result, takes_of
from expotion_cli.version import __version__

TEMPLATE = "report.html"
NAME = "report.html"
LONGEST_S = 1e6
"""What a sidecar is believed of its clip's length: the page draws a time axis of it."""


def write_report(path: str | Path, found: Collection, looks: Mapping[Path, Look]) -> Path:
    """Write the page.

    Args:
        path: of the file; videos are linked relative to its folder.
        found: the results.
        looks: what each video looks and sounds like.

    Raises:
        OutputError: it can't be written.
    """
    return render.write_page(path, TEMPLATE, values(found, looks, Path(path).parent))


def values(found: Collection, looks: Mapping[Path, Look], place: Path) -> dict[str, Any]:
    """What the template shows.

    Args:
        found: the results.
        looks: what each video looks and sounds like.
        place: folder of the page.
    """
    cards = [
        _card(number, result, looks.get(result.video, Look()) if result.video else Look(), place)
        for number, result in enumerate(found.results)
    ]
    order = list(STATUSES)
    wrong = [card for card in cards if (card["reason"] and card["status"] != FOREIGN) or card["trouble"]]
    shown = [card for card in cards if card["src"] or card["facts"]]
    return {
        "title": f"{found.folder.resolve().name or found.folder}: expotion report",
        "folder": str(found.folder.resolve().name or found.folder),
        "notes": found.notes,
        "wrong": sorted(wrong, key=lambda card: order.index(card["status"])),
        "foreign": [card for card in cards if card["status"] == FOREIGN],
        "cards": shown,
        "summary": _summary(shown, wrong),
        "recipes": sorted({card["recipe"] for card in shown if card["recipe"]}, key=str.casefold),
        "statuses": [(key, words) for key, words in STATUSES.items() if key in {c["status"] for c in (*shown, *wrong)}],
        "data": {card["id"]: card["axis"] for card in shown},
        "glossary": list(_measures(Facts(), Facts())),
        "version": __version__,
    }


def _summary(shown: Sequence[Mapping[str, Any]], wrong: Sequence[Any]) -> list[str]:
    total_s = sum(card["axis"]["duration"] for card in shown)
    parts = [f"{len(shown)} {'result' if len(shown) == 1 else 'results'}", f"{clock(total_s)} of music"]
    return [*parts, *([f"{len(wrong)} to look after"] if wrong else [])]


def _card(number: int, result: Result, look: Look, place: Path) -> dict[str, Any]:
    """Everything shown of a result."""
    facts = result.facts
    recipe, model, loudness = facts.table("recipe"), facts.table("model"), facts.table("loudness")
    measured, clip, tempo = facts.table("measured"), facts.table("clip"), facts.table("tempo")
    duration_s = look.duration_s or _within(clip.number("duration_s"), LONGEST_S) or 0.0
    lufs, hits = loudness.number("integrated_lufs"), measured.number("hits")
    return {
        "id": f"clip-{number}",
        "name": result.name,
        "status": result.status,
        "status_words": STATUSES[result.status],
        "reason": result.reason,
        "remedy": result.remedy,
        "at": result.at_utc if result.status in (FAILED, REFUSED, UNFINISHED) else "",
        "notes": [*result.notes, *facts.texts("notes")],
        "trouble": look.trouble,
        "src": render.link(result.video, place) if result.video is not None else "",
        "poster": f"data:image/jpeg;base64,{look.poster}" if look.poster else "",
        "size": (look.width, look.height) if look.width and look.height else None,
        "recipe": recipe.text("name"),
        "prompt": facts.text("prompt"),
        "tempo": f"{bpm:.0f} bpm" if (bpm := tempo.number("bpm")) is not None else "",
        "length": clock(duration_s, tenths=True) if duration_s else "",
        "made": list(filter(None, (model.text("name"), f"seed {facts.text('seed')}" if "seed" in facts else ""))),
        "measures": list(_measures(measured, loudness)) if facts.text("artefact") else [],
        "facts": list(_facts(result, place)) if facts.text("artefact") else [],
        "licence": model.text("licence").partition(" (")[0],
        "is_restricted": forbids_sale(model.text("licence")),
        "sort": {"hits": hits, "lufs": lufs, "length": duration_s},
        "search": " ".join((result.name, facts.text("prompt"), recipe.text("name"), model.text("name"))).casefold(),
        "takes": list(_takes(result, place)),
        "axis": {
            "duration": round(duration_s, 3),
            "peaks": look.peaks,
            "motion": look.motion,
            "takes": dict(look.takes),
            "hits": [hit for row in facts.rows("hits") if (hit := _hit(row, duration_s)) is not None],
            "cuts": [at for cut in facts.rows("cuts") if (at := _within(cut.number("time_s"), duration_s)) is not None],
        },
    }


_TERMS = (
    ("hits", "hits", "{:.0%}"),
    ("pulse", "pulse", "{:.2f}"),
    ("spread_db", "spread", "{:.1f} dB"),
    ("style", "style", "{:.2f}"),
)
"""What is shown of a take's terms."""


def _takes(result: Result, place: Path) -> Iterator[dict[str, Any]]:
    """The takes to choose from."""
    for take in takes_of(result):
        terms = Facts(take.terms)
        yield {
            "number": take.number,
            "score": _shown(finite(take.score), "{:.2f}"),
            "terms": [(name, _shown(terms.number(key), form)) for key, name, form in _TERMS if key in terms],
            "missed": take.missed,
            "chosen": take.chosen,
            "by_user": take.by_user,
            "src": render.link(take.sound, place) if take.sound is not None else "",
            "file": take.sound.name if take.sound is not None else "",
            "command": "" if take.chosen else f"expotion takes {shlex.quote(str(result.video))} --choose {take.number}",
        }


def _hit(hit: Facts, duration_s: float) -> list[Any] | None:
    """A hit point as the page's script reads it: [seconds, weight, cause, seconds of its answer, what sounds]."""
    at, answered = (_within(hit.number(key), duration_s) for key in ("time_s", "answered_s"))
    return (
        None if at is None else [at, hit.number("weight"), hit.text("cause"), answered, ", ".join(hit.texts("sounds"))]
    )


def _within(time_s: float | None, duration_s: float) -> float | None:
    """A time if the clip has it."""
    return time_s if time_s is not None and 0 <= time_s <= duration_s else None


def _measures(measured: Facts, loudness: Facts) -> Iterator[tuple[str, str, str, str, str]]:
    """(name, value, what it is, what stands beside it, "good" or "warn" or "")."""
    hits, chance = measured.number("hits"), measured.number("hits_chance")
    beside = f"by chance {chance:.0%}" if hits is not None and chance is not None else ""
    mark = "" if hits is None or chance is None else "good" if hits > chance else "warn"
    about = (
        "share of the picture's accents that a musical accent meets within 0.1 s; by chance: the same with the music "
        "turned by random times"
    )
    yield "hits", _shown(hits, "{:.0%}"), about, beside, mark
    for table, key, name, form, about in (
        (measured, "pulse", "pulse", "{:.2f}", "how steady the beat is; human-composed music 0.80 to 0.92"),
        (measured, "spread_db", "spread", "{:.1f} dB", "between loud and quiet; human-composed music 1.5 to 7.5 dB"),
        (measured, "hole_share", "holes", "{:.0%}", "share of the time in which the music nearly falls silent"),
        (loudness, "integrated_lufs", "loudness", "{:.1f} LUFS", "integrated, EBU R128"),
        (loudness, "true_peak_dbtp", "true peak", "{:.1f} dBTP", "highest peak between samples"),
        (loudness, "range_lu", "range", "{:.1f} LU", "loudness range, EBU R128"),
    ):
        yield name, _shown(table.number(key), form), about, "", ""


def _shown(value: float | None, form: str) -> str:
    return "–" if value is None else form.format(value).replace("-", "\N{MINUS SIGN}")


def _facts(result: Result, place: Path) -> Iterator[tuple[str, str, str]]:
    """(name, value, address to follow)."""
    facts = result.facts
    model, clip, tempo = facts.table("model"), facts.table("clip"), facts.table("tempo")
    key, output, soundfont = facts.table("key").table("taken"), facts.table("output"), facts.table("soundfont")
    bpm = tempo.number("bpm")
    players = [row.text("name") for row in _values(facts, "instruments")]
    streams = [f"{row.text('name')} ({row.number('found') or 0:.0%})" for row in facts.rows("streams")]
    width, height, fps = (clip.number(name) for name in ("width", "height", "fps"))
    music = [f"{bpm:.1f} bpm" if bpm else "", facts.text("metre"), f"{key.text('tonic')} {key.text('mode')}"]
    for name, value in (
        ("clip", clip.text("file")),
        ("prompt", facts.text("prompt")),
        ("recipe", facts.table("recipe").text("name")),
        ("seed", facts.text("seed")),
        ("model", model.text("name")),
        ("licence", model.text("licence")),
        ("adapter", facts.text("adapter")),
        ("soundfont", soundfont.text("file")),
        ("music", ", ".join(part.strip() for part in music if part.strip())),
        ("moved", _moved(facts.table("alignment"))),
        ("instruments", ", ".join(dict.fromkeys(filter(None, players)))),
        ("not understood", ", ".join(facts.texts("not_understood"))),
        ("seen", ", ".join(streams)),
        ("cue plan", facts.table("plan").text("given")),
        ("picture", f"{width:.0f} × {height:.0f}, {fps:.4g} frames a second" if width and height and fps else ""),
        ("sound", output.text("audio_codec")),
        ("sha256", output.text("sha256")),
        ("made on", result.at_utc),
        ("made by", f"expotion {facts.table('versions').text('expotion')}"),
    ):
        if value:
            yield name, value, ""
    midi = facts.table("midi").text("file")
    if midi and result.video is not None and Path(midi).name == midi and result.video.with_name(midi).is_file():
        yield "notes", midi, render.link(result.video.with_name(midi), place)


def _moved(alignment: Facts) -> str:
    """How music was aligned with hit points; "" where it stayed as it was composed."""
    shift_s, bend = alignment.number("shift_s"), alignment.number("most_bend")
    before, after = alignment.number("hits_before"), alignment.number("hits_after")
    if shift_s is None or bend is None or before is None or after is None or not (shift_s or bend):
        return ""
    way = f"by {_shown(shift_s, '{:+.2f} s')}, bent by up to {bend:.1%}"
    return f"{way}: its own accents meet {after:.0%} of the hit points, not {before:.0%}"


def _values(facts: Facts, key: str) -> list[Facts]:
    content = facts.table(key)
    return [content.table(name) for name in content]


def clock(seconds: float, *, tenths: bool = False) -> str:
    """Minutes and seconds, with hours where there are any: 1:05, 0:10.0, 1:00:00.

    Args:
        seconds: not negative.
        tenths: show them.
    """
    ticks = round(seconds * 10) if tenths else round(seconds) * 10
    hours, rest = divmod(ticks, 36_000)
    minutes, rest = divmod(rest, 600)
    text = f"{minutes:02d}:{rest // 10:02d}" if hours else f"{minutes}:{rest // 10:02d}"
    return (f"{hours}:" if hours else "") + text + (f".{rest % 10}" if tenths else "")
