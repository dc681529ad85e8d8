"""The engine: detects faces and computes embeddings behind the compreface-core contract."""

__version__ = "0.1.0"
