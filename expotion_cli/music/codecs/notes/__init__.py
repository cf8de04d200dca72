"""The note codec: tokens of eight voices on a beat grid, played with a soundfont."""
