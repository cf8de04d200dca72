"""The embedded model `expotion-mini`, trained from scratch."""
