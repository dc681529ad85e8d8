"""The engine as a client sees it: its environment, its HTTP API, its reference answer."""
