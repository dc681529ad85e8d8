"""Build files: their lookup, their schema and their checks."""
