"""The pictures of `docs/`, made from the demo clips: what `expotion inspect` draws, and how the finished music follows.

    python benchmarks/pictures.py --work DIR

Writes the demo clips into DIR, scores them with the recipe `cinematic` (finished ones stay), and draws
`docs/following-NAME.png` for each and `docs/inspect.png` for one. Nobody but the demo's portrait is ever shown.
"""

from __future__ import annotations

import argparse
import io
import subprocess
import sys
from pathlib import Path

import numpy as np
import symusic
from bench import print_table
from PIL import Image

import expotion_cli as expotion
from expotion_cli.audio.hits import TOLERANCE_S, hits
from expotion_cli.audio.loudness import BLOCK_S, HOP_S, loudness_curve, momentary_lufs
from expotion_cli.audio.onsets import RATE_HZ, onset_strength
from expotion_cli.demo import write_demo_clips
from expotion_cli.inspection import chart, run
from expotion_cli.inspection.curves import Columns, to_columns
from expotion_cli.inspection.drawing import DIM, FAINT, INK, Plot, draw_lane
from expotion_cli.inspection.marks import GREEN, ORANGE, PURPLE, TALL, Curve, Lane, Pins
from expotion_cli.inspection.observe import Observer
from expotion_cli.inspection.plan_lanes import beat_times, plan_lanes
from expotion_cli.inspection.raster import to_png
from expotion_cli.inspection.scene import Box, Line, Photo, Scene, Text
from expotion_cli.media.clip import ClipInfo
from expotion_cli.media.frames import View
from expotion_cli.media.probe import probe
from expotion_cli.media.sound import read_clip_sound
from expotion_cli.media.stills import stills
from expotion_cli.scoring.sidecar import read_sidecar
from expotion_cli.spotting.plan import CuePlan
from expotion_cli.spotting.plan_file import plan_digest
from expotion_cli.vision.cache import EmbeddingCache

DOCS = Path(__file__).resolve().parent.parent / "docs"
RECIPE, INSPECTED = "cinematic", "rise"
WIDTH, LEFT, RIGHT, TOP, GAP = 1200, 172, 138, 84, 10
SAMPLE_RATE = 32_000
QUIETEST_DB, LOUDEST_DB = -40.0, -4.0
LEVEL_RATE_HZ = 20.0
NOTES_HEIGHT, LOWEST, HIGHEST = 230, 20, 92
VOICE_COLOURS = {
    "melody": "#c0392b", "counter": "#8e44ad", "figure": "#2e86c1", "harmony": "#95a5a6", "bass": "#27ae60",
    "drums": "#222222", "percussion": "#7f6000",
}  # fmt: skip
NUM_THUMBNAILS, THUMBNAIL_GAP = 8, 4


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--work", type=Path, required=True, help="Folder for the clips and the scored ones.")
    work = parser.parse_args().work
    recipe = expotion.load_recipe(RECIPE)
    clips = write_demo_clips(work / "clips")
    call = "from expotion_cli.cli import score_main; score_main()"
    flags = [str(work / "clips"), "--recipe", RECIPE, "--out", str(work / "scored"), "--midi", "--quiet"]
    subprocess.run([sys.executable, "-c", call, *flags], check=True)
    cache, rows = EmbeddingCache(), []  # the streams that were scored
    for clip in clips:
        info, scored = probe(clip.path), work / "scored" / f"{clip.name}.mp4"
        plan = expotion.spot(expotion.see(info, recipe.streams.use, cache=cache), info.duration, recipe)
        rows.append(save(f"following-{clip.name}", following(info, scored, plan)))
        if clip.name == INSPECTED:
            seen = Observer(recipe.streams.use, recipe, cache).observe(info, info.path.name)
            rows.append(save("inspect", chart.draw(seen, run.thumbnails(info))))
    print_table("Pictures", ("file", "width", "height", "kB"), rows)


def following(clip: ClipInfo, scored: Path, plan: CuePlan) -> Scene:
    """Thumbnails, plan, loudness of the finished sound and the accents that are heard, on one time axis."""
    sidecar = read_sidecar(scored)
    if sidecar is None or sidecar["plan"]["digest"] != plan_digest(plan):
        raise SystemExit(f"{scored} follows another plan: use a new folder, and a new cache (EXPOTION_CACHE).")
    plot = Plot(LEFT, WIDTH - LEFT - RIGHT, RIGHT, plan.duration_s)
    thumbnails = thumbnails_of(clip, plot)
    points, intensity, _, grid = plan_lanes(plan, clip.duration, int(plot.width))
    sound = read_clip_sound(scored, SAMPLE_RATE)
    score = symusic.Score(scored.with_suffix(".mid")).to("second")
    notes = Lane(
        "Notes", "of the MIDI file", NOTES_HEIGHT, LOWEST, HIGHEST, (),
        keys=tuple((name, colour) for name, colour in VOICE_COLOURS.items()), has_beats=True,
    )  # fmt: skip
    lanes = [points, intensity, grid, notes, loudness_lane(sound, plan), accents_lane(sound, plan, sidecar["hits"])]
    top = TOP + thumbnails[0].shape[0] + GAP
    bottom = top + sum(lane.height + GAP for lane in lanes)
    drawing = Scene(WIDTH, bottom + 34, f"How the music follows {clip.path.name}")
    facts = (
        f"{plan.duration_s:g} s", f"recipe {RECIPE}", f"{sidecar['tempo']['bpm']:.1f} bpm",
        f"{sidecar['loudness']['integrated_lufs']:.1f} LUFS",
    )  # fmt: skip
    drawing.add(Text(20, 40, f"How the music follows {clip.path.name}", 26, INK))
    drawing.add(Text(20, 65, "  ·  ".join(facts), 16, DIM))
    drawing.add(Text(LEFT - 14, TOP + 16, "Picture", 15, INK, "end"))
    for number, pixels in enumerate(thumbnails):
        drawing.add(Photo(round(LEFT + number * plot.width / NUM_THUMBNAILS + THUMBNAIL_GAP / 2), TOP, pixels))
    beats, y = beat_times(plan, clip.duration), float(top)
    for lane in lanes:
        draw_lane(drawing, plot, lane, y, beats)
        if lane is notes:
            draw_notes(drawing, plot, score, y)
        y += lane.height + GAP
    drawing.add(Line(((plot.left, bottom), (plot.end, bottom)), FAINT, 1.2))
    times, words = chart.axis_times(plan.duration_s)
    for time in times:
        x = plot.x(time)
        drawing.add(Line(((x, bottom), (x, bottom + 6)), FAINT, 1.2))
        drawing.add(Text(x, bottom + 22, words(time), 14, DIM, "middle"))
    return drawing


def draw_notes(drawing: Scene, plot: Plot, score: symusic.Score, top: float) -> None:
    """A piano roll; drums and percussion as small marks at its lower edge, louder notes thicker."""
    scale = NOTES_HEIGHT / (HIGHEST - LOWEST)
    for track in score.tracks:
        voice = track.name.split(":")[0].split(" ")[0].lower()
        colour = VOICE_COLOURS.get(voice, INK)
        for note in track.notes:
            x, width = plot.x(note.time), max(2.0, plot.x(note.time + note.duration) - plot.x(note.time) - 1)
            height = 2 + note.velocity / 40
            pitch = LOWEST + 2 + (note.pitch - 35) % 24 / 2 if track.is_drum else note.pitch
            if track.is_drum:
                width = 3.0
            if LOWEST <= pitch <= HIGHEST:
                drawing.add(Box(x, top + (HIGHEST - pitch) * scale - height / 2, width, height, colour))


def thumbnails_of(clip: ClipInfo, plot: Plot) -> list[np.ndarray]:
    width = int(plot.width / NUM_THUMBNAILS) - THUMBNAIL_GAP
    size = (width, round(width * clip.height / clip.width))
    times = [(number + 0.5) * plot.duration_s / NUM_THUMBNAILS for number in range(NUM_THUMBNAILS)]
    return [np.asarray(Image.fromarray(each).resize(size)) for each in stills(clip, times, View(max_height=size[1]))]


def loudness_lane(sound: np.ndarray, plan: CuePlan) -> Lane:
    """Level of each 50 ms, and momentary loudness; 0 is `QUIETEST_DB`."""
    level = np.maximum(loudness_curve(sound, SAMPLE_RATE, LEVEL_RATE_HZ), QUIETEST_DB) - QUIETEST_DB
    momentary = np.maximum(momentary_lufs(sound, SAMPLE_RATE), QUIETEST_DB) - QUIETEST_DB
    times = np.arange(len(momentary)) * HOP_S + BLOCK_S / 2
    of_level = to_columns(level, np.ones(len(level), bool), LEVEL_RATE_HZ, plan.duration_s, len(level))
    of_loudness = Columns(times, momentary, momentary, momentary, np.ones(len(times)))
    return Lane(
        "Loudness", "of the finished sound", TALL + 36, 0, LOUDEST_DB - QUIETEST_DB,
        (Curve(of_level, FAINT, filled=True), Curve(of_loudness, ORANGE)),
        keys=(("each 50 ms, dBFS", FAINT), ("each 0.4 s, LUFS", ORANGE)),
        levels=tuple((db - QUIETEST_DB, f"{db}") for db in (-40, -30, -20, -10)), has_beats=True,
    )  # fmt: skip


def accents_lane(sound: np.ndarray, plan: CuePlan, found: list[dict]) -> Lane:
    """Onset strength of the finished sound, with the answered hit points above it."""
    strength = onset_strength(sound, SAMPLE_RATE)
    strength = strength / max(float(strength.max()), 1e-9)
    columns = to_columns(strength, np.ones(len(strength), bool), RATE_HZ, plan.duration_s, len(strength))
    answered = tuple((hit["answered_s"], 1.12, "diamond") for hit in found if hit["answered_s"] is not None)
    others = tuple((hit["time_s"], 1.12, "circle") for hit in found if hit["answered_s"] is None)
    facts: tuple[str, ...] = ()
    if found:
        met = hits(np.array([hit["time_s"] for hit in found]), strength)
        facts = (
            f"{len(answered)} of {len(found)} answered", f"{met.value:.0%} accented",
            f"within {TOLERANCE_S:g} s", f"(chance {met.chance:.0%})",
        )  # fmt: skip
    return Lane(
        "Accents heard", "onset strength", TALL + 36, 0, 1.25,
        (Pins(others, FAINT), Pins(answered, PURPLE), Curve(columns, GREEN, filled=True)),
        keys=(*((("answered", PURPLE),) if answered else ()), *((("unanswered", FAINT),) if others else ())),
        facts=facts, has_beats=True,
    )  # fmt: skip


def save(name: str, drawing: Scene) -> tuple[str, int, int, int]:
    """Write a picture in 256 colours, a third of the size of true ones."""
    image = Image.open(io.BytesIO(to_png(drawing)))
    path = DOCS / f"{name}.png"
    few = image.quantize(256, method=Image.Quantize.MEDIANCUT, dither=Image.Dither.NONE)
    few.save(path, optimize=True)
    return f"docs/{path.name}", image.width, image.height, path.stat().st_size // 1000


if __name__ == "__main__":
    main()
