"""A folder of clips in, scored clips out: discover, plan, and climb the ladder many clips at a time."""
