"""Reading, mixing and remuxing clips. The only place that talks to ffmpeg."""
