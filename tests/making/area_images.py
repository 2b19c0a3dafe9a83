"""The images of golden/resize_area.npz, by a formula: NumPy alone, so that TensorFlow's environment can make them too."""

import numpy as np


def image(height: int, width: int) -> np.ndarray:
    """A flat, a smooth and a noisy part, (H, W, 3) uint8: sums of equal pixels are where float32 falls below an integer."""
    y, x, c = np.ogrid[:height, :width, :3]
    noise = (y * 7919 + x * 104729 + c * 1299709) * 2654435761 % 2**32 >> 24
    smooth = (3 * x + 2 * y + 40 * c) % 256
    flat = 60 + 37 * c + 11 * (x // 16 % 3) + 0 * y
    part = (y // 8 + x // 8) % 3
    return np.where(part == 0, flat, np.where(part == 1, smooth, noise)).astype(np.uint8)
