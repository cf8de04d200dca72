"""Adapter training on a frozen MusicGen."""
