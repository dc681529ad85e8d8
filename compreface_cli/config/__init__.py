"""Where settings come from: the table of settings, its layers, folders, the files people write."""
