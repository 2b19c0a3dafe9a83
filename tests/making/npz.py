"""Google's .npz checkpoints with seeded weights, by the recipe of the golden README."""

import json
import zlib

import numpy as np
import torch

from tests.making.paths import GOLDEN


def golden(name):
    with np.load(GOLDEN / f"{name}.npz", allow_pickle=False) as file:
        return {key: file[key] for key in file.files}


def weights(spec, tag):
    """Seeded weights in the released layout, by the recipe of the golden README."""
    made = {}
    for name, shape in json.loads(str(spec)).items():
        w = (
            np.random.default_rng(zlib.crc32(f"{tag}:{name}".encode()))
            .standard_normal(shape)
            .astype(np.float32)
        )
        if name.endswith(("scale", "gamma")):
            w = 1 + np.float32(0.1) * w
        elif name.endswith(("bias", "beta")):
            w = np.float32(0.05) * w
        elif name.endswith(("pos_embedding", "cls")):
            w = np.float32(0.2) * w
        else:
            fan = 96 if "MultiHead" in name else np.prod(shape[:-1])
            w = w / np.float32(np.sqrt(fan))
        made[name] = w.astype(np.float32)
    return made


def images(seed, size):
    pixels = np.random.default_rng(seed).uniform(-1, 1, (4, size, size, 3)).astype(np.float32)
    return torch.from_numpy(pixels).permute(0, 3, 1, 2)


def saved(arrays, tmp_path, name="x.npz"):
    np.savez(tmp_path / name, **arrays)
    return tmp_path / name
