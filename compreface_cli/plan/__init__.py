"""The plan of a command with all values settled, its models, and the operations of `cf up`."""
