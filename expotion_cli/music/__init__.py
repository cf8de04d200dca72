"""Models that compose: from conditioning to tokens, and from tokens to samples."""
