"""Build files: finding them, and what they may say."""
