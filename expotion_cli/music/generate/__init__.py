"""From requests to tokens: batches, windows, sampling."""
