"""What things cost: analytic FLOPs, measured seconds and memory, and where they were measured."""
