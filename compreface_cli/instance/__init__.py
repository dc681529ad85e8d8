"""The instances of this user: their records, and the state of their services."""
