"""Weight files in and out, strictly and without executing anything."""
