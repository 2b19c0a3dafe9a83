"""A plan's pending jobs become records."""
