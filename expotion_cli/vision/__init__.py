"""From video to embeddings: encoders, their streams and the cache that stores them.

Start reading at `streams.encode_clip`; `encoder` defines the protocol, and each encoder has a file of its own.
"""
