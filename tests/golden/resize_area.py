"""Write resize_area.npz: TensorFlow's area resize and big_vision's `resize_small`, on images made by a formula.

    python -m tests.golden.resize_area        # needs TensorFlow and NumPy (made with 2.21.0 and 2.4)

The images of a test are made by the same formula, so only their sizes and TensorFlow's results are stored.
"""

from pathlib import Path

import numpy as np

from tests.making.area_images import image

# (height, width) -> (height, width): reduced, enlarged, both, 1 px sides, whole factors, sizes that float32 rounds.
FLOAT_SIZES = [
    ((37, 53), (11, 13)), ((64, 64), (16, 16)), ((41, 29), (40, 28)), ((5, 7), (20, 17)), ((1, 1), (6, 5)), ((1, 90), (7, 31)),
    ((90, 1), (31, 7)), ((3, 200), (3, 49)), ((100, 10), (9, 23)), ((33, 33), (10, 10)), ((49, 70), (7, 10)),
    ((127, 61), (23, 11)),
    ((30, 41), (30, 41)), ((2, 3), (3, 2)), ((255, 19), (17, 19)), ((150, 200), (21, 28)),
]  # fmt: skip
# Image sizes and the shorter side asked for: the longer side is rounded in float32.
SMALL_SIZES = [
    ((75, 50), 56), ((50, 75), 56), ((48, 64), 37), ((64, 48), 37), ((500, 375), 37), ((21, 300), 19), ((7, 5), 37),
    ((333, 500), 60),
    ((1, 9), 21), ((96, 96), 56), ((99, 66), 37), ((66, 121), 33),
]  # fmt: skip


def main() -> None:
    """Write the file."""
    import tensorflow as tf

    found = {}
    for (height, width), size in FLOAT_SIZES:
        name = f"float/{height}x{width}/{size[0]}x{size[1]}"
        found[name] = tf.image.resize(image(height, width), size, method="area").numpy()
    for (height, width), smaller in SMALL_SIZES:
        # as in BV:pp/ops_image.py:93-131
        factor = tf.cast(smaller, tf.float32) / tf.cast(tf.minimum(height, width), tf.float32)
        size = [tf.cast(tf.round(tf.cast(side, tf.float32) * factor), tf.int32) for side in (height, width)]
        resized = tf.image.resize(image(height, width), size, method="area", antialias=False)
        cut = tf.cast(tf.clip_by_value(resized, 0, 255), tf.uint8)
        found[f"small/{height}x{width}/{smaller}"] = cut.numpy()
    np.savez_compressed(Path(__file__).with_suffix(".npz"), **found)


if __name__ == "__main__":
    main()
