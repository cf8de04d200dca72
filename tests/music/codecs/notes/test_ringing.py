"""What sounds from the first frame on, and through silences."""

from __future__ import annotations

from expotion_cli.music.codecs.notes.ringing import begin_at_once
from expotion_cli.music.codecs.notes.tokens import Event


def test_a_chord_held_as_the_picture_begins_is_struck_again_and_what_follows_stands_once():
    chords = [Event(0, 24, 5, 2), Event(24, 36, 7, 1), Event(36, 48, 5, 1)]
    heard = begin_at_once({"harmony": chords}, 10)["harmony"]
    assert heard == [Event(0, 10, 5, 2), Event(10, 24, 5, 2), *chords[1:]]
