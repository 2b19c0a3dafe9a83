"""Compute cost (FLOPs, time, memory, energy, core-days), and the device, batch size and environment of a job."""
