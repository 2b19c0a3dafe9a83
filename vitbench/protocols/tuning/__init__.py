"""Fine-tuning at work: batches, steps, states and runs. Imported only when something is trained."""
