"""Does ducked music leave speech its band, come back, and leave everything else alone? One table, and JSON.

Speech comes from a real clip where one is at hand, from `tests/helpers/made_sounds.py` and from espeak-ng where that is
installed; around it lie street noise, wind and nothing. What must not duck the music lies by itself. Music is
made in code. The last rows show `--mix under`: music with a loud end under a voice, at the distance asked for.

    python benchmarks/ducking.py
"""

from __future__ import annotations

import argparse
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from bench import RESULTS, machine, print_table, put_into, write_results

from expotion_cli.audio.filters import apply_sections, high_pass, low_pass
from expotion_cli.audio.loudness import momentary_lufs
from expotion_cli.media.beneath import ROWS_HZ
from expotion_cli.media.mix import mix
from expotion_cli.media.sound import read_clip_sound, read_sound
from expotion_cli.recipe import Mix
from expotion_cli.speech.listening import find_speech

REPOSITORY = RESULTS.parent.parent
sys.path.append(str(REPOSITORY / "tests" / "helpers"))
from made_sounds import TALK_S, band, talk  # noqa: E402

RATE, SECONDS = 44_100, 16
TEXT = "The river runs past the old mill. We walked there every morning, before the others were awake."
UNDER_LU = Mix().under_lu
BACK_S = 1.0


@dataclass(frozen=True)
class Case:
    """A clip's own sound.

    Attributes:
        name: in the table.
        sound: [n] float32.
        spoken: when somebody speaks, in seconds; None where only the network can tell.
    """

    name: str
    sound: np.ndarray
    spoken: tuple[tuple[float, float], ...] | None


def street(rng: np.random.Generator) -> np.ndarray:
    """[n] rumble of engines that pass, a horn, footsteps."""
    time = np.arange(SECONDS * RATE) / RATE
    rumble = coloured(rng, 90, 900) * (0.4 + 0.6 * np.sin(2 * np.pi * time / 7) ** 2)
    horn = 0.15 * sum(np.sin(2 * np.pi * hz * time) for hz in (392, 494)) * ((time % 8 > 3) & (time % 8 < 3.6))
    steps = 0.2 * rng.standard_normal(len(time)) * np.exp(-60 * (time % 0.55))
    return (0.3 * rumble + horn + steps).astype(np.float32)


def wind(rng: np.random.Generator) -> np.ndarray:
    """[n] gusts."""
    time = np.arange(SECONDS * RATE) / RATE
    gusts = 0.5 + 0.5 * np.sin(2 * np.pi * time / 3.1) * np.sin(2 * np.pi * time / 1.7)
    return (0.4 * coloured(rng, 20, 400) * gusts).astype(np.float32)


def coloured(rng: np.random.Generator, low_hz: float, high_hz: float) -> np.ndarray:
    """[n] noise between two frequencies, peaks near 1."""
    noise = rng.standard_normal(SECONDS * RATE).astype(np.float32)
    found = apply_sections(noise, [high_pass(low_hz, RATE), low_pass(high_hz, RATE)], RATE // 5)
    return found / np.abs(found).max()


def placed(sound: np.ndarray, *starts_s: float) -> np.ndarray:
    """[n] a sound at these times, silence around it."""
    made = np.zeros(SECONDS * RATE, np.float32)
    for start_s in starts_s:
        first = round(start_s * RATE)
        part = sound[: len(made) - first]
        made[first : first + len(part)] += part
    return made


def cases(clip: Path) -> Iterator[Case]:
    """All that is measured."""
    rng = np.random.default_rng(0)
    made = placed(talk(RATE), 0.0, 8.0)
    spoken = tuple((start + at, end + at) for at in (0.0, 8.0) for start, end in TALK_S)
    noise, gusts = street(rng), wind(rng)
    yield Case("made syllables", made, spoken)
    yield Case("made syllables in the street", made + 0.1 * noise, spoken)
    yield Case("made syllables in the wind", made + 0.1 * gusts, spoken)
    if shutil.which("espeak-ng"):
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / "speech.wav"
            subprocess.run(["espeak-ng", "-v", "en-us", "-s", "150", "-w", path, TEXT], check=True)
            said = placed(read_sound(path, RATE, 1)[0], 2.0)
        yield Case("espeak-ng", said, None)
        yield Case("espeak-ng in the street", said + 0.1 * noise, None)
    if clip.is_file():
        yield Case(clip.name, read_clip_sound(clip, RATE).mean(axis=0), None)
    yield Case("street alone", noise, ())
    yield Case("wind alone", gusts, ())
    yield Case("music alone", band(RATE, SECONDS * RATE, seed=3), ())


def in_band(sound: np.ndarray, chosen: np.ndarray) -> float:
    """Level in dB between 300 and 3,400 Hz, of the samples chosen."""
    heard = apply_sections(sound, [high_pass(300, RATE), low_pass(3400, RATE)], RATE // 10)
    return float(10 * np.log10(np.mean(heard[:, chosen] ** 2)))


def measured(case: Case, music: np.ndarray) -> dict[str, Any]:
    """How one clip's own sound fares."""
    own = np.stack([case.sound, case.sound])
    found = find_speech(own, RATE)
    made = mix(music[:, : own.shape[1]], RATE, num_samples=own.shape[1], mode="duck", fade_in_s=0.05, fade_out_s=0.05,
               under_lu=UNDER_LU, music_gain_db=0.0, original=own, speech=found)  # fmt: skip
    spoken = found if case.spoken is None else case.spoken
    time = np.arange(own.shape[1]) / RATE
    inside = np.zeros(len(time), dtype=bool)
    for start, end in spoken:
        inside |= (time >= start) & (time < end)
    gain_db, rest_db = made.gain_db, float(made.gain_db.max())
    following = [start for start, _ in spoken[1:]] + [np.inf] * bool(spoken)
    ends = [end for (_, end), start in zip(spoken, following, strict=True)
            if start - end > 2 * BACK_S and end + BACK_S < len(time) / RATE]  # fmt: skip
    back = [rest_db - float(gain_db[round((end + BACK_S) * ROWS_HZ)]) for end in ends]
    first = [rest_db - float(gain_db[round(start * ROWS_HZ)]) for start, _ in spoken]
    beneath = made.sound - own
    return {
        "sound": case.name,
        "spoken_s": round(float(inside.sum() / RATE), 2),
        "found_s": round(sum(end - start for start, end in found), 2),
        "band_over_music_db": round(in_band(own, inside) - in_band(beneath, inside), 1) if inside.any() else None,
        "down_at_first_syllable_db": round(min(first), 1) if first else None,
        "missing_a_second_after_db": round(max(back), 2) if back else None,
        "ducked_outside_share": round(float(np.mean(gain_db < rest_db - 3)), 3) if not spoken else None,
    }


def under(loud_db: float, steady: np.ndarray) -> dict[str, Any]:
    """How far music whose last third is so much louder lies under a voice that never pauses."""
    speech = np.resize(talk(RATE)[round(0.8 * RATE) : round(2.4 * RATE)], SECONDS * RATE)
    own, music = np.stack([speech, speech]), steady.copy()
    music[:, : 10 * RATE] *= 10 ** (-loud_db / 20)
    made = mix(music, RATE, num_samples=own.shape[1], mode="under", fade_in_s=0.05, fade_out_s=0.05, under_lu=14.0,
               music_gain_db=0.0, original=own)  # fmt: skip
    away = momentary_lufs(own, RATE) - momentary_lufs(made.sound - own, RATE)
    whole = momentary_lufs(own, RATE) - momentary_lufs(music, RATE)
    level = 14.0 - float(np.median(whole[105:155]))  # one gain for all, as the loudest passage sets it
    return {
        "last third louder by, dB": loud_db,
        "asked": 14.0,
        "soft part": round(float(np.median(away[5:95])), 1),
        "loud part": round(float(np.median(away[105:155])), 1),
        "soft part with one gain for all": round(float(np.median(whole[5:95])) + level, 1),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    clips = REPOSITORY.parent / "shared" / "clips"
    parser.add_argument("--clip", type=Path, default=clips / "talking-head.mp4", help="a clip in which somebody speaks")
    options = parser.parse_args()
    music = np.stack([band(RATE, SECONDS * RATE, seed=1), band(RATE, SECONDS * RATE, seed=2)])
    rows = [measured(case, music) for case in cases(options.clip)]
    distances = [under(loud_db, music) for loud_db in (0.0, 6.0, 12.0)]
    head = ("own sound", "spoken, s", "found, s", "speech over music in its band, dB", "down at the first syllable, dB",
            "missing 1 s after, dB", "time ducked")  # fmt: skip
    print_table(f"Ducking by {UNDER_LU:g} LU", head, [tuple(row.values()) for row in rows])
    print_table("--mix under, LU below the voice", tuple(distances[0]), [tuple(row.values()) for row in distances])
    lines = [f"| {' | '.join(head)} |", f"|{'---|' * len(head)}"]
    lines += [f"| {' | '.join('' if value is None else str(value) for value in row.values())} |" for row in rows]
    put_into(REPOSITORY / "docs" / "mixing.md", {"ducking": "\n".join(lines)})
    write_results("ducking", {"machine": machine(), "under_lu": UNDER_LU, "ducking": rows, "under": distances})


if __name__ == "__main__":
    main()
