"""Copied runs of melody notes, on tunes whose answers are known."""

from __future__ import annotations

import numpy as np

from expotion_cli.music.codecs.notes.copies import join_melodies, longest_shared_run, melody_codes
from expotion_cli.music.codecs.notes.tokens import Event, events_to_tokens


def melody(pitches: list[int], length: int = 12) -> np.ndarray:
    events = [Event(i * length, (i + 1) * length, p, 1) for i, p in enumerate(pitches)]
    return events_to_tokens({"melody": events}, length * len(pitches))


def test_a_copied_run_is_found_in_another_key_and_measured_exactly():
    tune = [60, 62, 64, 60, 67, 65, 64, 62, 60, 71]
    known = join_melodies([melody([48, 50, 48]), melody(tune)])
    assert longest_shared_run(melody([p + 5 for p in tune]), known) == len(melody_codes(melody(tune))) == 8
    assert longest_shared_run(melody(tune), join_melodies([melody(tune[2:]), melody(tune[:-2]), melody(tune)])) == 8
    broken = [*tune[:7], 70, 52, 71]
    assert longest_shared_run(melody(broken), known) == 6
    assert longest_shared_run(melody(tune, length=6), known) == 0, "the spacing counts"
    assert longest_shared_run(melody(tune), join_melodies([])) == 0


def test_the_longest_shared_run_equals_a_search_by_hand_on_random_tunes():
    rng = np.random.default_rng(0)
    tunes = [melody(list(60 + rng.integers(0, 3, size=40))) for _ in range(12)]
    line, *others = (melody_codes(tune).tolist() for tune in tunes)
    by_hand = max(
        n
        for n in range(len(line))
        for i in range(len(line) - n + 1)
        if any(line[i : i + n] == o[j : j + n] for o in others for j in range(len(o) - n + 1))
    )
    assert by_hand >= 4
    assert longest_shared_run(tunes[0], join_melodies(tunes[1:])) == by_hand
