"""Markers for editing programs: timecode, and the files that carry them."""
