"""Made-up photographs, as JPEGs."""

import io

import numpy as np
from PIL import Image

from vitbench.data.decode import decode


def photographs(n: int) -> list[bytes]:
    """JPEGs of 500 x 375 px with the spectrum of photographs, 4:2:0, about 60 kB."""
    rng = np.random.default_rng(0)
    found = []
    for _ in range(n):
        pixels = sum(
            np.asarray(
                Image.fromarray(rng.integers(0, 256, (375 // s + 2, 500 // s + 2, 3), dtype=np.uint8)).resize(
                    (500, 375), Image.BICUBIC
                ),
                np.float32,
            )
            * w
            for s, w in ((64, 0.45), (16, 0.3), (4, 0.2), (1, 0.05))
        )
        buffer = io.BytesIO()
        Image.fromarray(np.clip(pixels, 0, 255).astype(np.uint8)).save(buffer, "JPEG", quality=90)
        found.append(buffer.getvalue())
    return found


class Jpegs:
    """Photograph-like JPEGs in memory, decoded as a folder's files are."""

    def __init__(self, count: int) -> None:
        self.encoded = photographs(min(count, 96))
        self.count, self.fingerprint = count, f"made up, {count}"

    def __len__(self) -> int:
        return self.count

    def read(self, positions: list[int], *, fast_dct: bool = False) -> list[np.ndarray]:
        """Decoded images (H, W, 3)."""
        chosen = (self.encoded[position % len(self.encoded)] for position in positions)
        return [decode(data, exif_rotate=False, fast_dct=fast_dct) for data in chosen]
