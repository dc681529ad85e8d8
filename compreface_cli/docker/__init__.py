"""Access to Docker: its engine and its program, containers, images, and those that `cf` made."""
