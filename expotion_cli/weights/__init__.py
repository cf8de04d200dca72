"""Where weights come from: manifests that state them, and how they are fetched."""
