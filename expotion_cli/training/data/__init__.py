"""Data folders for training, prepared from videos and music."""
