"""The launchers: they carry out starts, stops and removals by Docker Compose or as a process."""
