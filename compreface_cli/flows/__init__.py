"""One file a promise: composes the rooms below and owns the clean-up."""
