"""One file a command: its flags, a call of the room that does the work, and what is printed."""
