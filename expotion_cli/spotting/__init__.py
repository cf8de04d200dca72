"""What the picture asks of music: from embedding streams to accents, intensity and tempo."""
