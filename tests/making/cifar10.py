"""Real images: 2,400 of CIFAR-10's training images as JPEGs in class folders."""

import tarfile

from tests.making.paths import DATA


def unpack_images(folder):
    """Put them into a folder."""
    with tarfile.open(DATA / "cifar10_images.tar.gz") as archive:
        archive.extraction_filter = getattr(tarfile, "data_filter", None)  # not in Python 3.11.0 to 3.11.3
        archive.extractall(folder)
