"""The vocabulary: what every other package's signatures mention."""
