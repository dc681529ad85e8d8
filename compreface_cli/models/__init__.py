"""The weights of a build: what they are, where they come from, how the engine gets them."""
