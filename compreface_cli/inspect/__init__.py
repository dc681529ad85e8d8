"""Read-only commands: `list-builds`, `show`, `status`, `doctor`."""
