"""Photographs through a running engine: scan, compare, demo."""
