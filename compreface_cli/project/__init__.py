"""The Compose project: rendering its files, and writing them atomically."""
