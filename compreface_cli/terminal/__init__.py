"""What people and programs read of `cf`: the printer, tables, progress."""
