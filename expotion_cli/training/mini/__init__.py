"""Remakes the embedded model from scratch."""
