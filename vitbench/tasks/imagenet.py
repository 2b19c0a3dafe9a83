"""ImageNet-1k from TFDS or class folders, with ReaL accuracy as a second metric (docs/protocols.md#imagenet-real)."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from functools import cache, cached_property
from importlib.util import find_spec
from pathlib import Path
from typing import Annotated, Any

import numpy as np
from numpy.typing import NDArray

from vitbench.api import TOP1, Labels, Part, ScoreRule, Split, Task
from vitbench.core.entry import Added
from vitbench.core.errors import DataMissingError
from vitbench.core.files import digest_bytes
from vitbench.core.registry import register_task
from vitbench.data.image_folder import FolderSource, class_folders, image_files
from vitbench.data.tfds.dataset import DataSet, ManualFile, declare
from vitbench.data.tfds.order import order_hash, reading_order, shard_lengths_of
from vitbench.data.tfds.splits import held_out, prepared_task
from vitbench.tasks.imagenet_test_sets import TestSets, content_of, further_sets_of

CLASSES = 1000
DEV_PERCENT = 1  # last 1 % of train used for validation: 1,268,355 / 12,812 (BV:configs/transfer.py:66-77)
# Few-shot budgets draw from train[:65000], which has at least 30 images per class (docs/protocols.md#few-shot-data-sets).
SHOTS_FROM = 65_000
TRAIN_SHARDS = 1024  # files of train as TFDS prepares it (docs/protocols.md#n-shot-draws)
SOURCE = "image-net.org, ILSVRC 2012"

IMAGENET = declare(
    DataSet(
        "imagenet2012",
        majors=(5,),
        sizes={"train": 1_281_167, "validation": 50_000},
        key=lambda example, _split: example.text("file_name"),
        title=lambda example: example.text("file_name"),
        manual=(
            ManualFile("ILSVRC2012_img_train.tar", 147_897_477_120, SOURCE),
            ManualFile("ILSVRC2012_img_val.tar", 6_744_924_160, SOURCE),
        ),
    )
)
VALIDATION_NAME = re.compile(r"ILSVRC2012_val_(\d{8})\.JPEG")


def _content(options: Mapping[str, Any]) -> str:
    """The digest of what is prepared: of ImageNet, unless it is in folders, and of further test sets that are named."""
    own, chosen = IMAGENET.content(options), options.get("test_sets")
    further = "" if isinstance(chosen, Mapping) else content_of(chosen or ())
    return digest_bytes(own.encode(), further.encode()) if further else own


@register_task(
    "imagenet",
    version=2,
    group="vit",
    data=_content,
    dataset="imagenet2012",
    n_test=50_000,
    source="ViT paper App. B.1.1; ReaL: arXiv 2006.07159",
)
def imagenet(path: Path | None = None, test_sets: Annotated[TestSets, Added()] = None) -> Task:
    """1,000 classes, tested on the 50,000 validation images, also with ReaL labels; `path`: class folders instead of TFDS.

    `test_sets` are further ones, by name (of v2, v2-threshold, v2-top, a, r, sketch, c), or a folder for each.
    """
    rules = (TOP1, ScoreRule("real", real_correct))
    if path is not None:
        task: Task = ImageNetFolders(path, rules)
    else:
        slices = held_out(DEV_PERCENT, test="validation", shots_first=SHOTS_FROM)
        task = prepared_task(IMAGENET, slices, CLASSES, rules=rules)
    task.further = further_sets_of(test_sets, wordnet_ids())
    return task


# ---------------------------------------------------------------- ReaL


@cache
def real_labels() -> tuple[frozenset[int], ...]:
    """Return the ReaL labels of the 50,000 validation images; an empty set is not scored (docs/protocols.md#imagenet-real).

    Read from timm, which ships an exact copy of the release's real.json.

    Raises:
        DataMissingError: timm is not installed.
    """
    spec = find_spec("timm")
    if spec is None or spec.origin is None:
        raise DataMissingError("timm, which ships the ReaL labels, is not installed: pip install timm")
    text = (Path(spec.origin).parent / "data" / "_info" / "imagenet_real_labels.json").read_text(
        encoding="utf-8"
    )
    return tuple(frozenset(labels) for labels in json.loads(text))


def real_correct(predictions: Labels, split: Split) -> NDArray[np.float64]:
    """Return (N,): 1 if the prediction is among the image's ReaL labels, 0 if not, NaN if it has none."""
    correct = np.empty(len(split))
    for row, (prediction, index) in enumerate(zip(predictions, split.indices, strict=True)):
        labels = real_labels()[validation_number(split.source.name(int(index))) - 1]
        correct[row] = float(int(prediction) in labels) if labels else np.nan
    return correct


def validation_number(name: str) -> int:
    """Return the number in a validation image's file name, 1 to 50,000.

    Raises:
        ValueError: the name has another form, so the ReaL labels cannot be looked up.
    """
    found = VALIDATION_NAME.fullmatch(Path(name).name)
    if found is None or not 1 <= int(found[1]) <= len(real_labels()):
        raise ValueError(
            f"{name} is not named like ILSVRC2012_val_00000001.JPEG: ReaL labels are looked up by that number"
        )
    return int(found[1])


# ---------------------------------------------------------------- folders


@cache
def _packaged(name: str) -> tuple[str, ...]:
    """Return a list shipped with TFDS: WordNet ids in class order, or of each validation image in the devkit's order."""
    spec = find_spec("tensorflow_datasets")
    root = Path(spec.origin).parent if spec and spec.origin else Path()
    return tuple((root / "datasets" / "imagenet2012" / name).read_text(encoding="utf-8").split())


def wordnet_ids() -> tuple[str, ...]:
    """Return the WordNet ids of the 1,000 classes, which name the class folders; the position is the label."""
    return _packaged("labels.txt")


def validation_labels() -> NDArray[np.int64]:
    """Return the labels (50000,) of the validation images, in the order of their numbers."""
    classes = {name: label for label, name in enumerate(wordnet_ids())}
    return np.asarray([classes[name] for name in _packaged("validation_labels.txt")], dtype=np.int64)


class ImageNetFolders(Task):
    """ImageNet as `train/<wnid>/*.JPEG`, and `val` flat or in class folders. Train is in TFDS's order, by file name."""

    random_order = True

    def __init__(self, root: Path, rules: tuple[ScoreRule, ...]) -> None:
        self.root, self.rules, self.class_names = root, rules, wordnet_ids()
        if differing := sorted(set(class_folders(root / "train")) ^ set(self.class_names)):
            raise DataMissingError(
                f"{root / 'train'} does not hold ImageNet's {CLASSES} class folders: {len(differing)} differ, such as "
                f"{differing[:3]}"
            )
        if not (root / "val").is_dir():
            raise DataMissingError(
                f"{root / 'val'} does not exist: ImageNet is scored on its 50,000 validation images"
            )

    def train(self) -> Split:
        """All of train except the last 1 %."""
        return self._part(0, self._cut)

    def val(self) -> Split:
        """The last 1 % of train."""
        return self._part(self._cut, len(self._listed[0]))

    def test(self) -> Split:
        """The official validation images."""
        files, labels = _validation_files(self.root)
        source = FolderSource(self.root, tuple(files), exif_rotate=False)
        return Split(source, np.arange(len(files)), labels)

    def shots(self) -> Split:
        """The first 65,000 images of train, from which few-shot budgets draw, in the order in which TFDS reads its files."""
        split = self._part(0, SHOTS_FROM)
        lengths = shard_lengths_of(len(self._listed[0]), TRAIN_SHARDS)
        return split.take(reading_order(lengths, f"train[:{len(split)}]"))

    def first(self, part: Part, n: int) -> Split:
        """The first n images of train or val."""
        start = 0 if part == "train" else self._cut
        return self._part(start, min(n, self._cut) if part == "train" else start + n)

    def departures(self) -> tuple[str, ...]:
        """Describe the splits whose size differs from the reference."""
        counts = {"train": len(self._listed[0]), "validation": len(_validation_files(self.root)[0])}
        return tuple(
            f"imagenet {split} has {n:,} examples, the reference {IMAGENET.sizes[split]:,}"
            for split, n in counts.items()
            if n != IMAGENET.sizes[split]
        )

    @cached_property
    def _listed(self) -> tuple[list[str], NDArray[np.int64]]:
        """All of train, files and labels, in TFDS's order, which is keyed by file name."""
        files, labels = image_files(self.root, "train", self.class_names)
        order = sorted(range(len(files)), key=lambda i: order_hash("train", Path(files[i]).name))
        return [files[i] for i in order], np.asarray(labels, dtype=np.int64)[order]

    @property
    def _cut(self) -> int:
        return len(self._listed[0]) * (100 - DEV_PERCENT) // 100

    def _part(self, start: int, stop: int) -> Split:
        """Return a range of train. Its source holds only these files, so no others are hashed or read."""
        if (start, stop) not in self._parts:
            files, labels = self._listed
            source = FolderSource(self.root, tuple(files[start:stop]), exif_rotate=False)
            self._parts[start, stop] = Split(source, np.arange(len(source)), labels[start:stop])
        return self._parts[start, stop]

    @cached_property
    def _parts(self) -> dict[tuple[int, int], Split]:
        """Splits by range, kept so that each source computes its fingerprint once."""
        return {}


def _validation_files(root: Path) -> tuple[list[str], NDArray[np.int64]]:
    """Return the validation files in the order of their numbers, with labels, from class folders or one flat folder."""
    flat = sorted(file.name for file in (root / "val").glob("*.JPEG"))
    if flat:
        return [f"val/{name}" for name in flat], validation_labels()[[validation_number(n) - 1 for n in flat]]
    found, classes = image_files(root, "val", wordnet_ids())
    order = sorted(range(len(found)), key=lambda i: Path(found[i]).name)
    return [found[i] for i in order], np.asarray(classes, dtype=np.int64)[order]
