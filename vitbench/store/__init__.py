"""A run directory and everything that happens to it."""
