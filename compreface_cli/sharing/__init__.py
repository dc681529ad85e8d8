"""Builds as files for others: what `cf export` writes and `cf import` reads."""
