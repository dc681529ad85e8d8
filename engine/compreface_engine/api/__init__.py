"""The HTTP API: upstream's contract and the operational routes."""
