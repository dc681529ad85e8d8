"""Photographs sent to a running engine: `scan`, `compare`, `demo`."""
