"""Takes: several candidates of a cue, how they are judged, kept beside the result, and chosen from."""

from expotion_cli.scoring.takes.layout import Take, find_takes

__all__ = ["Take", "find_takes"]
