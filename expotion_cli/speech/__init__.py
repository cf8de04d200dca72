"""Where somebody speaks in a sound."""
