"""Makes the reference that `expotion evaluate` measures sets against where none is given: what Freedoom sounds like.

Excerpts of 12 s from every piece (two, at a third and two thirds of it; one of pieces shorter than 30 s) are played
with the soundfont that expotion-mini plays with, and tagged. What the tagger hears is kept: seven embeddings and the
mean tag probabilities of each excerpt, no sound and no notes. Volume and pan are the MIDI files' own; a little
reverberation is the same for all.

    python benchmarks/musicnn_reference.py [--corpus FOLDER]

It writes models/musicnn/reference.safetensors; its size and sha256 belong into models/musicnn.toml.
"""

from __future__ import annotations

import argparse
import bisect
import math
from pathlib import Path
from typing import Any

import numpy as np
from bench import RESULTS, print_table

from expotion_cli.music.codecs.notes.render import pan_stereo
from expotion_cli.music.codecs.notes.reverb import reverberate
from expotion_cli.music.codecs.notes.sampler import PlayedNote, Synth
from expotion_cli.music.codecs.notes.soundfont import SoundFont, default_soundfont
from expotion_cli.storage import canonical_json, digest_file
from expotion_cli.tagging.tagger import Tagger
from expotion_cli.tags import TAGS

REPOSITORY = RESULTS.parent.parent
OUT = REPOSITORY / "models" / "musicnn" / "reference.safetensors"
SAMPLE_RATE = 44_100
EXCERPT_S, LONG_S, SHORTEST_S = 12.0, 30.0, 12.0
LEAD_S = 4.0
"""Notes that begin this long before an excerpt still ring in it."""
REVERB_S, REVERB_SHARE = 1.2, 0.25
VOLUME, EXPRESSION, PAN = 7, 11, 10
DEFAULTS = {VOLUME: 100, EXPRESSION: 127, PAN: 64}


def excerpts_of(duration_s: float) -> list[float]:
    """Where the excerpts of a piece begin, in seconds."""
    if duration_s < SHORTEST_S:
        return []
    middles = (1 / 3, 2 / 3) if duration_s >= LONG_S else (1 / 2,)
    return [min(max(0.0, duration_s * middle - EXCERPT_S / 2), duration_s - EXCERPT_S) for middle in middles]


def play(score: Any, synth: Synth, start_s: float) -> np.ndarray:
    """[2, n]: an excerpt of a score in seconds."""
    first_s, size = start_s - LEAD_S, round((LEAD_S + EXCERPT_S) * SAMPLE_RATE)
    mix = np.zeros((2, size), np.float32)
    for track in score.tracks:
        curves = {number: _steps(track.controls, number) for number in DEFAULTS}
        notes = []
        for note in track.notes:
            if first_s <= note.time < start_s + EXCERPT_S:
                gain = math.prod((_at(curves[number], note.time) / 127) ** 2 for number in (VOLUME, EXPRESSION))
                notes.append(PlayedNote(note.time - first_s, note.duration, note.pitch, note.velocity, gain))
        if notes:
            stem = synth.play(notes, track.program, size, drums=track.is_drum)
            mix += pan_stereo(stem, (_at(curves[PAN], start_s) - 64) / 64)
    mix += np.float32(REVERB_SHARE) * reverberate(mix, REVERB_S, SAMPLE_RATE)[:, :size]
    return mix[:, round(LEAD_S * SAMPLE_RATE) :]


def _steps(controls: Any, number: int) -> tuple[list[float], list[int]]:
    found = sorted((control.time, control.value) for control in controls if control.number == number)
    return [time for time, _ in found], [DEFAULTS[number], *(value for _, value in found)]


def _at(steps: tuple[list[float], list[int]], time_s: float) -> int:
    return steps[1][bisect.bisect_right(steps[0], time_s)]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--corpus", type=Path, default=REPOSITORY.parent / "shared" / "corpus" / "freedoom")
    options = parser.parse_args()
    import symusic
    from safetensors.numpy import save_file

    soundfont = default_soundfont()
    tagger, synth = Tagger(), Synth(SoundFont(soundfont), SAMPLE_RATE)
    pieces, embeddings, tags = [], [], []
    for path in sorted(options.corpus.glob("*.mid")):
        score = symusic.Score(path).to("second")
        for start_s in excerpts_of(score.end()):
            heard = tagger.hear(play(score, synth, start_s), SAMPLE_RATE)
            if len(heard.embeddings) < len(heard.probabilities):
                continue  # an excerpt with a silence
            pieces.append(f"{path.stem}@{start_s:.1f}")
            embeddings.append(heard.embeddings)
            tags.append(heard.mean)
    arrays = {"embeddings": np.stack(embeddings).astype(np.float16), "tags": np.stack(tags).astype(np.float32)}
    about = {
        "name": "Freedoom",
        "excerpts": " ".join(pieces),
        "tagger": tagger.identity,
        "soundfont": f"{soundfont.name}, sha256 {digest_file(soundfont)}",
    }
    save_file(arrays, OUT, {"about": canonical_json(about)})  # several entries would stand in any order
    OUT.chmod(0o644)
    mean = arrays["tags"].mean(axis=0)
    print_table(
        "What is heard", ("tag", "probability"), [(TAGS[i], round(float(mean[i]), 3)) for i in np.argsort(-mean)[:12]]
    )
    count = len({piece.partition("@")[0] for piece in pieces})
    print(f"{len(pieces)} excerpts of {count} pieces; {OUT.name}: {OUT.stat().st_size} bytes, {digest_file(OUT)}")


if __name__ == "__main__":
    main()
