"""Attributes of a piece, which captions are written from."""

from __future__ import annotations

from random import Random
from typing import Any

import numpy as np

from expotion_cli.music.codecs.notes import tokens as notes
from expotion_cli.training.mini.corpus.energy import EnergyProfile

_MOODS: dict[tuple[str, str], tuple[str, ...]] = {
    ("major", "low"): ("calm", "dreamy", "tender", "peaceful", "warm", "gentle", "hopeful", "nostalgic", "serene"),
    ("major", "middle"): ("hopeful", "warm", "optimistic", "cheerful", "relaxed", "bright", "romantic", "light"),
    ("major", "high"): ("uplifting", "happy", "energetic", "joyful", "triumphant", "upbeat", "exciting", "bright"),
    ("minor", "low"): ("sad", "melancholic", "dark", "mysterious", "lonely", "somber", "tender", "mournful"),
    ("minor", "middle"): ("moody", "wistful", "serious", "dark", "mysterious", "emotional", "brooding", "longing"),
    ("minor", "high"): ("intense", "aggressive", "dramatic", "urgent", "powerful", "fierce", "dark", "driving"),
}
_STYLE_MOODS: dict[str, dict[str, tuple[str, ...]]] = {
    "cinematic": {
        "low": ("atmospheric", "emotional", "solemn"),
        "middle": ("dramatic", "sweeping", "heroic"),
        "high": ("epic", "heroic", "powerful", "grand"),
    },
    "ambient": {
        "low": ("ethereal", "dreamy", "floating", "meditative"),
        "middle": ("atmospheric", "dreamy", "spacious"),
        "high": ("shimmering", "atmospheric"),
    },
    "electronic": {
        "low": ("hypnotic", "cool"),
        "middle": ("groovy", "futuristic", "driving"),
        "high": ("energetic", "danceable", "pumping", "exciting"),
    },
    "lofi": {
        "low": ("mellow", "chill", "sleepy"),
        "middle": ("chill", "laid-back", "mellow", "relaxed"),
        "high": ("groovy", "head-nodding", "confident"),
    },
    "jazz": {
        "low": ("smoky", "intimate", "smooth"),
        "middle": ("smooth", "laid-back", "sophisticated"),
        "high": ("swinging", "lively", "exuberant"),
    },
    "classical": {
        "low": ("delicate", "elegant", "intimate"),
        "middle": ("graceful", "elegant", "lyrical"),
        "high": ("spirited", "brilliant", "passionate"),
    },
    "chorale": {"low": ("solemn", "reverent"), "middle": ("solemn", "dignified"), "high": ("majestic", "dignified")},
    "pop": {
        "low": ("easygoing", "sweet"),
        "middle": ("catchy", "easygoing", "feel-good"),
        "high": ("upbeat", "catchy", "feel-good", "energetic"),
    },
    "comedy": {
        "low": ("quirky", "sneaky", "cheeky"),
        "middle": ("playful", "quirky", "funny", "whimsical"),
        "high": ("playful", "zany", "comical", "bouncy"),
    },
    "suspense": {
        "low": ("suspenseful", "eerie", "tense", "uneasy"),
        "middle": ("tense", "suspenseful", "ominous"),
        "high": ("tense", "menacing", "thrilling", "urgent"),
    },
    "rock": {
        "low": ("laid-back", "brooding", "gritty"),
        "middle": ("gritty", "driving", "confident"),
        "high": ("energetic", "powerful", "driving", "rebellious"),
    },
    "metal": {
        "low": ("dark", "ominous", "heavy"),
        "middle": ("heavy", "dark", "aggressive"),
        "high": ("aggressive", "heavy", "furious", "powerful"),
    },
}


def tempo_word(bpm: float) -> str:
    """One of "slow", "moderate" and "fast"."""
    return "slow" if bpm < 84 else "fast" if bpm > 124 else "moderate"


def arc_word(energy: list[float]) -> str:
    """The shape of an energy curve without its last bar: "rising", "falling", "bursts" or "steady"."""
    curve = np.asarray(energy[:-8] if len(energy) > 16 else energy)
    third = max(1, len(curve) // 3)
    slope = curve[-third:].mean() - curve[:third].mean()
    if slope > 0.22:
        return "rising"
    if slope < -0.22:
        return "falling"
    return "bursts" if curve.std() > 0.2 else "steady"


def onset_rows(tokens: np.ndarray) -> np.ndarray:
    """Number of onsets of each voice. [K, S] → [K]."""
    return (tokens >= notes.FIRST_ONSET).sum(axis=1)


def describe(
    r: Random,
    style: str,
    mode: str,
    feel: str,
    tempo_bpm: int,
    profile: EnergyProfile,
    energy: list[float],
    tokens: np.ndarray,
    instruments: dict[str, str],
) -> dict[str, Any]:
    """Attributes of a piece.

    Args:
        r: source of randomness, for the moods.
        style: a key of `captions.STYLE_NAMES`.
        mode: "major", "minor" or "dorian".
        feel: division of the beat.
        tempo_bpm: in beats a minute.
        profile: that the piece was arranged on.
        energy: that the arrangement followed, one value for each half beat.
        tokens: [K, S].
        instruments: voice → instrument for the voices that sound.

    Returns:
        JSON-like: style, mode ("major" or "minor" colour), scale, feel, tempo_bpm, tempo, density (word),
        onsets_per_beat, energy {mean, word, arc, accents, stillness, follow}, voices, instruments, moods.
    """
    counts = onset_rows(tokens)
    beats = tokens.shape[1] / 12
    per_beat = float(counts[1:].sum() / beats)
    sounding = [v.name for v, n in zip(notes.VOICES[1:], counts[1:], strict=True) if n]
    body = energy[:-8]
    mean = float(np.mean(body))
    colour = "major" if mode == "major" else "minor"
    level = "low" if mean < 0.36 else "high" if mean > 0.58 else "middle"
    if level == "high" and tempo_bpm < 72:
        level = "middle"
    pool = list(_MOODS[(colour, level)]) + 2 * list(_STYLE_MOODS[style][level])
    moods: list[str] = []
    while len(moods) < 3:
        word = r.choice(pool)
        if word not in moods:
            moods.append(word)
    still = sum(e <= 0.06 for e in body) / len(body)
    return {
        "style": style,
        "mode": colour,
        "scale": mode,
        "feel": feel,
        "tempo_bpm": tempo_bpm,
        "tempo": tempo_word(tempo_bpm),
        "density": "sparse" if per_beat < 2.2 else "dense" if per_beat > 5.5 else "medium",
        "onsets_per_beat": round(per_beat, 3),
        "energy": {
            "mean": round(mean, 3),
            "word": {"low": "low", "middle": "medium", "high": "high"}[level],
            "arc": arc_word(energy),
            "accents": len(profile.accents),
            "stillness": round(still, 3),
            "follow": profile.follow,
        },
        "voices": sounding,
        "instruments": {v: instruments[v] for v in sounding if v in instruments},
        "moods": moods,
    }


def describe_plain(
    style: str, mode: str, tempo_bpm: int, tokens: np.ndarray, instruments: dict[str, str], level: float
) -> dict[str, Any]:
    """Attributes of a piece without an energy profile.

    Args:
        style: a key of `captions.STYLE_NAMES`.
        mode: "major" or "minor".
        tempo_bpm: in beats a minute.
        tokens: [K, S].
        instruments: voice → instrument for the voices that sound.
        level: its even energy, 0..1.
    """
    half_beats = tokens.shape[1] // 6
    profile = EnergyProfile([level] * half_beats, [False] * half_beats, {}, 0.0)
    r = Random(int(tokens.astype(np.int64).sum()))
    return describe(r, style, mode, "straight", tempo_bpm, profile, profile.energy, tokens, instruments)
