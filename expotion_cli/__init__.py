"""expotion: scores video with music that follows the person in the picture."""

__version__ = "0.1.0"
