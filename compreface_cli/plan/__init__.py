"""What a command wants, settled: the plan, its models, and the operations that lead there."""
