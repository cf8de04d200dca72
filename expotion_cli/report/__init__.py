"""What a folder of results holds, as a page to listen to and as a cue sheet."""
