"""Which results depend on a seed, and what it draws."""

from __future__ import annotations

from vitbench.core.job import Job, shots_of

# Protocols that draw nothing but the images of an N-shot budget (`depends_on_seed` of each, in vitbench/protocols).
NOTHING_RANDOM = ("knn", "ridge_probe", "logistic_probe")
NO_TRAINING_DATA = ("own_head",)


def is_seeded(job: Job) -> bool:
    """Whether another seed may give another result; taken for granted of protocols from elsewhere."""
    if job.protocol.name in NO_TRAINING_DATA:
        return False
    return job.protocol.name not in NOTHING_RANDOM or shots_of(job.budget) is not None


def draws_images(job: Job) -> bool:
    """Whether the seed draws the training images, which backbones with the same seed then share."""
    return shots_of(job.budget) is not None
