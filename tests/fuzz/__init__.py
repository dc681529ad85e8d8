"""Fuzzing: the targets, the corpus, and its replay in the tests."""
