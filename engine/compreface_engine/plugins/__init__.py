"""Detectors, calculators and analyzers, and the table of them; see docs/extend.md."""
