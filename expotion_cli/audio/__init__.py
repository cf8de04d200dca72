"""Measures of sound, with numpy alone: what a listener would measure."""
