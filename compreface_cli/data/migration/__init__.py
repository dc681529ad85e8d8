"""Gives the faces of an instance the embeddings of another build, on a live database."""
