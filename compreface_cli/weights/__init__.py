"""The models on this machine, for `cf models`: list, fetch, verify."""
