"""Holding music to what it was: record references of scored clips, render them again, compare."""
