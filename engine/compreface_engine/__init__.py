"""The CompreFace engine: detects faces and computes embeddings behind the compreface-core HTTP contract."""

__version__ = "0.1.0"
