"""Output of `cf` for people and programs: the printer, tables, progress."""
