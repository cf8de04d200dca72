"""Tags of music: what a published network hears in it."""
