"""From picture to embeddings: encoders, their streams and the cache that keeps them.

`streams.encode_clip` is the door; `encoder` holds the words, one file each holds an encoder.
"""
