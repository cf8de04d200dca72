"""The follow layer: makes any music follow a cue plan, by level and by accents of its own."""

FOLLOW_VERSION = 3
"""To be raised when the same plan and settings come to sound different; part of every result's digest."""
ACCENTS_VERSION = 1
"""To be raised when an accent comes to sound different; likewise."""
ALIGN_VERSION = 1
"""To be raised when the same music comes to be aligned differently; part of results whose music is sound, not notes."""
