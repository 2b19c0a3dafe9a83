"""The subprocess that prepares one data set: `python -m vitbench.data.tfds.prepare_process NAME DIR FORMAT`.

It is the only module that imports TensorFlow.
"""

from __future__ import annotations

import os
import sys
from typing import Any


def main(name: str, folder: str, file_format: str) -> int:
    """Run TFDS's builder, with folders listed in sorted order so that caltech101's split is the same everywhere."""
    import tensorflow as tf
    import tensorflow_datasets as tfds

    _sort_listings(tf)
    builder = tfds.builder(name, data_dir=folder, file_format=file_format)
    config = tfds.download.DownloadConfig(compute_stats=tfds.download.ComputeStatsMode.SKIP)
    try:
        builder.download_and_prepare(download_config=config)
    except KeyboardInterrupt:
        return 130
    except Exception as error:
        print(f"{type(error).__name__}: {error}", file=sys.stderr)  # noqa: T201
        if os.environ.get("VITBENCH_DEBUG"):
            raise
        return 1
    return 0


def _sort_listings(tf: Any) -> None:
    walk, listdir = tf.io.gfile.walk, tf.io.gfile.listdir

    def sorted_walk(*arguments: Any, **options: Any) -> Any:
        for folder, folders, files in walk(*arguments, **options):
            yield folder, sorted(folders), sorted(files)

    tf.io.gfile.walk = sorted_walk
    tf.io.gfile.listdir = lambda path: sorted(listdir(path))


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
