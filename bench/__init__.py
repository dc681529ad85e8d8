"""What `make bench` measures: the start of `cf`, and the engine beside TensorFlow."""
