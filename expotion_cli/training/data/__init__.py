"""Makes a data folder out of videos and music."""
