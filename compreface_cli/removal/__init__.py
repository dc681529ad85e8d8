"""What removes things for good: `down --volumes`, `rm`, `prune`."""
