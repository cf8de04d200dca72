"""Training adapters on prepared footage, and remaking the embedded model."""
