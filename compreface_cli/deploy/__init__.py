"""The operations on instances: `up`, `down`, `restart`, `build`, and what they share."""
