"""What changes an instance: `up`, `down`, `restart`, `build`, and what they share."""
