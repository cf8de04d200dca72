"""MusicGen's decoder, its text encoder and the joint-embedding adapter: the network, to be read in one sitting."""
