"""Fuzzing: targets, the corpus that is kept, and its replay in the tests."""
