"""The Docker engine: its program, containers, images, and what `cf` has there."""
