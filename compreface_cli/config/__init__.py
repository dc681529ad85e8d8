"""Settings: their table and sources, the user's folders, and readers for files that users write."""
