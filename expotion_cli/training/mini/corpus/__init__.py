"""The training music of the embedded note model: composed by rules, described by captions."""
