"""Permanent removal: `down --volumes`, `rm`, `prune`."""
