"""Images and labels: sources, decoding, resizing, preprocessing, augmentation, batches, budgets and disk caches."""
