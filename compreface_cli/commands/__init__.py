"""One file a command: flags in, one flow called, the result handed to the printer."""
