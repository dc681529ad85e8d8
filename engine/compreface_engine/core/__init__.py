"""Image processing and shared types: no networks, no HTTP."""
