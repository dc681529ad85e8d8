"""Launchers: they start and stop an instance, as a Compose project or as a local process."""
