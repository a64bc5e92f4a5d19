"""A run as a folder: its settings, its files, and what can be asked of it."""
