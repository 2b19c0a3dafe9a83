"""Tiny data sets prepared by TFDS itself, in seconds and without TensorFlow: hashing, sharding and metadata are real.

They include the awkward cases: RGBA and few-object CLEVR, greyscale Caltech, streets without vehicles, images without ReaL
labels, masks of 0 and 1. `to_tfrecord` converts a data set to the other format.
"""

import io
import json
import os
import warnings
from pathlib import Path

import numpy as np
from PIL import Image

from vitbench.data.tfds.shard_file import masked_crc32c

N = 40
SPLITS = {
    **dict.fromkeys(["caltech101", "cifar10", "cifar100", "oxford_iiit_pet", "smallnorb"], ("train", "test")),
    **dict.fromkeys(["cars196", "caltech_birds2011"], ("train", "test")),
    **dict.fromkeys(
        ["dtd", "oxford_flowers102", "sun397/tfds", "patch_camelyon"], ("train", "validation", "test")
    ),
    **dict.fromkeys(["dmlab", "kitti", "clevr"], ("train", "validation", "test")),
    "diabetic_retinopathy_detection/btgraham-300": ("sample", "train", "validation", "test"),
    **dict.fromkeys(["eurosat/rgb", "resisc45", "dsprites", "uc_merced", "colorectal_histology"], ("train",)),
    "svhn_cropped": ("train", "test", "extra"),
    "imagenet2012": ("train", "validation"),
}
# Further test sets of ImageNet, with one split; those of 200 classes have labels among them.
TEST_SETS = {
    **dict.fromkeys(
        ["imagenet_v2/matched-frequency", "imagenet_a", "imagenet_r", "imagenet_sketch"], ("test",)
    ),
    "imagenet2012_corrupted/fog_1": ("validation",),
}
NO_REAL_LABEL = (1, 22, 37, 39)  # of the first 40 validation images
SIZES_PX = {"cifar10": (32, 32), "cifar100": (32, 32), "svhn_cropped": (32, 32), "patch_camelyon": (96, 96)} | {
    "eurosat/rgb": (64, 64), "resisc45": (256, 256), "dmlab": (360, 480), "dsprites": (64, 64), "smallnorb": (96, 96),
    "colorectal_histology": (150, 150), "uc_merced": (256, 256), "kitti": (94, 310), "clevr": (80, 120),
}  # fmt: skip
PNG = {"cifar10", "cifar100", "svhn_cropped", "patch_camelyon", "clevr", "dsprites", "kitti", "smallnorb"}


def encoded_image(name, rng, i):
    """Encoded bytes as the builder's raw data would hold them."""
    height, width = SIZES_PX.get(name) or (int(rng.integers(40, 70)), int(rng.integers(40, 70)))
    pixels = rng.integers(0, 256, (height // 8 + 1, width // 8 + 1, 3), dtype=np.uint8)
    image = Image.fromarray(pixels).resize((width, height), Image.BILINEAR)
    if name == "clevr":
        image.putalpha(200)
    elif name == "dsprites":
        image = Image.fromarray((np.asarray(image)[..., 0] > 127).astype(np.uint8))
    elif name == "smallnorb" or (name == "caltech101" and i % 5 == 0):
        image = image.convert("L")
    buffer = io.BytesIO()
    image.save(buffer, "PNG" if name in PNG else "JPEG")
    return buffer.getvalue()


def fill(feature, rng):
    """A value for a feature that no label rule reads."""
    kind = type(feature).__name__
    if kind == "ClassLabel":
        return int(rng.integers(feature.num_classes))
    if kind == "Text":
        return "text"
    if kind == "BBoxFeature":
        import tensorflow_datasets as tfds

        return tfds.features.BBox(0.1, 0.1, 0.9, 0.9)
    if kind == "Image":
        mask = io.BytesIO()
        Image.new("L", (8, 8)).save(mask, "PNG")
        return io.BytesIO(mask.getvalue())
    if kind == "Sequence":
        return []
    return np.zeros([side or 1 for side in feature.shape], feature.np_dtype)


def objects(name, rng, i):
    """Annotated objects; every fifth street has no vehicle, every tenth no object at all."""
    if name == "clevr":
        looks = {"color": 0, "material": 0, "shape": 0, "size": 0, "rotation": 0.0, "3d_coords": [0.0] * 3}
        depths = rng.uniform(7.5, 11, int(rng.integers(3, 11)))
        return [{**looks, "pixel_coords": [1.0, 2.0, float(depth)]} for depth in depths]
    facts = {"alpha": 0.0, "dimensions": [1.0] * 3, "occluded": 0, "rotation_y": 0.0, "truncated": 0.0}
    kinds = [] if i % 10 == 0 else [7, 3] if i % 5 == 0 else [int(rng.integers(3)), 5]
    return [
        {**facts, "bbox": fill(type("BBoxFeature", (), {})(), rng), "type": kind, "location": [0.0, 1.0, depth]}
        for kind, depth in zip(kinds, rng.uniform(2, 40, len(kinds)).tolist(), strict=True)
    ]  # fmt: skip


def example(name, split, features, rng, i):
    """The key and the example as the builder's generator yields them."""
    values = {key: fill(feature, rng) for key, feature in features.items()}
    values["image"] = io.BytesIO(encoded_image(name, rng, i))
    names = {
        "caltech101": ("image/file_name", f"image_{i:04d}.jpg", f"Dir/image_{i:04d}.jpg"),
        "cifar10": ("id", f"{split}_{i:05d}", i),
        "cifar100": ("id", f"{split}_{i:05d}", i),
        "svhn_cropped": ("id", f"{split}_{i:06d}", i),
        "patch_camelyon": ("id", f"{split[:5]}_{i}", f"{split[:5]}_{i}"),
        "eurosat/rgb": ("filename", f"Forest_{i}.jpg", f"Forest_Forest_{i}.jpg"),
        "resisc45": ("filename", f"sea_ice_{i:03d}.jpg", f"sea_ice_sea_ice_{i:03d}.jpg"),
        "kitti": ("image/file_name", f"{i:06d}.png", f"{i:06d}.png"),
        "clevr": ("file_name", f"CLEVR_{split}_{i:06d}.png", f"CLEVR_{split}_{i:06d}.png"),
        "dmlab": ("filename", f"{split}-{i}", f"{split}-{i}"),
        "diabetic_retinopathy_detection/btgraham-300": ("name", f"{i}_left", f"{i}_left"),
        "caltech_birds2011": ("image/filename", f"{i}.jpg", f"{i}.jpg"),
        "cars196": ("id", f"{i}.jpg", f"{i}.jpg"),
        "uc_merced": ("filename", f"{i}.tif", f"{i}.tif"),
        "colorectal_histology": ("filename", f"{i}.tif", f"{i}.tif"),
        "imagenet2012": ("file_name", *[f"ILSVRC2012_val_{i + 1:08d}.JPEG"] * 2),
        "imagenet2012_corrupted/fog_1": ("file_name", *[f"ILSVRC2012_val_{i + 1:08d}.JPEG"] * 2),
        "imagenet_v2/matched-frequency": ("file_name", f"{i}/x.jpeg", f"{i}_x.jpeg"),
        "imagenet_r": ("file_name", f"n{i}/x.jpg", f"n{i}_x.jpg"),
        "imagenet_a": ("file_name", *[f"{i}.jpg"] * 2),
        "imagenet_sketch": ("file_name", *[f"n{i}/x.JPEG"] * 2),
    }
    field, value, key = names.get(name, ("file_name", f"class/image_{i:05d}.jpg", f"class/image_{i:05d}.jpg"))
    if name == "dsprites":
        latents = np.unravel_index(i * 17, [3, 6, 40, 32, 32])
        for latent, value in zip(
            ["shape", "scale", "orientation", "x_position", "y_position"], latents, strict=True
        ):
            values[f"label_{latent}"] = int(value)
        key = i * 17
    elif name == "smallnorb":
        key = i
        values["image2"] = io.BytesIO(encoded_image(name, rng, i))
    elif field in features:
        values[field] = value
    if "objects" in features:
        values["objects"] = objects(name, rng, i)
    return key, values


def prepare(name, folder, n=N, shards=None, labels=()):
    """Prepare one data set as array_record, with n examples in each split, whose labels are among these if any are given."""
    import tensorflow_datasets as tfds

    rng = np.random.default_rng(len(name))
    builder = tfds.builder(name, data_dir=folder, file_format="array_record")

    def some(split, features):
        for i in range(n):
            key, values = example(name, split, features, rng, i)
            yield key, {**values, **({"label": labels[i % len(labels)]} if labels else {})}

    def splits(_manager):
        if name.startswith("cifar"):  # the real builder reads the names from its archive
            builder.info.features["label"].names = [
                f"c{i}" for i in range(builder.info.features["label"].num_classes)
            ]
            if name == "cifar100":
                builder.info.features["coarse_label"].names = [f"g{i}" for i in range(20)]
        return {split: some(split, builder.info.features) for split in (SPLITS | TEST_SETS)[name]}

    builder._split_generators = splits
    config = tfds.download.DownloadConfig(compute_stats="skip", manual_dir=folder, num_shards=shards)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        builder.download_and_prepare(download_config=config)
    return Path(builder.data_dir)


def prepare_all(folder):
    """Prepare all data sets that tasks use."""
    os.environ["TQDM_DISABLE"] = "1"
    try:
        for name in SPLITS:
            prepare(name, folder)
    finally:
        del os.environ["TQDM_DISABLE"]


def to_tfrecord(source, target):
    """Convert a prepared version to tfrecord files, for which TFDS would need TensorFlow."""
    from array_record.python.array_record_module import ArrayRecordReader

    target.mkdir(parents=True)
    for file in source.iterdir():
        if ".array_record-" in file.name:
            records = ArrayRecordReader(str(file)).read_all()
            (target / file.name.replace("array_record", "tfrecord")).write_bytes(
                b"".join(map(framed, records))
            )
        elif file.name == "dataset_info.json":
            info = json.loads(file.read_text(encoding="utf-8"))
            text = json.dumps(info).replace("array_record", "tfrecord")
            (target / file.name).write_text(text, encoding="utf-8")
        else:
            (target / file.name).write_bytes(file.read_bytes())
    return target


def framed(record):
    """One record with the lengths and checksums of the tfrecord format."""
    length = len(record).to_bytes(8, "little")
    return length + _crc(length) + record + _crc(record)


def _crc(data):
    return masked_crc32c(data).to_bytes(4, "little")
