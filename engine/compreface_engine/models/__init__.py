"""Prepared models: their manifests, what they take as input, and the faces to measure them with."""
