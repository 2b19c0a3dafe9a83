"""Data sets as TensorFlow Datasets prepares them, read without TensorFlow."""
