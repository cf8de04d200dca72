"""Trains an adapter on a frozen MusicGen."""
