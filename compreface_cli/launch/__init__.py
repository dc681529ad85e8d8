"""Launchers: they execute operations and judge nothing."""
