"""The weights of a build: what they are, where they come from, how they become what the engine loads."""
