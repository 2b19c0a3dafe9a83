"""Images and labels: sources, decoding, resize kernels, preprocessing and budgets."""
