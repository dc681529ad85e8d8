"""Instances of this user: their records, and the state of what runs."""
