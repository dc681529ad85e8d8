"""The Compose project as files: rendered, and written whole."""
