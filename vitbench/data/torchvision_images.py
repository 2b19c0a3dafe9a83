"""The data sets of torchvision that are on disk: their splits, labels and images, read through torchvision's own classes.

Images in files are decoded here, like those of all other sources; what torchvision holds in memory, or reads in a way of its
own, is taken from it image by image.
"""

from __future__ import annotations

import inspect
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from vitbench.api import ImageSource, Pixels
from vitbench.core.errors import DataMissingError, Problem, UsageError, nearest
from vitbench.core.files import digest_bytes
from vitbench.data.decode import BadImageError
from vitbench.data.image_folder import FolderSource
from vitbench.data.named_splits import SPLIT_NAMES, SplitNames

# Where the classes keep the files and the labels of their examples.
FILES = ("samples", "_samples", "imgs", "_image_files", "_images")
LABELS = ("targets", "_targets", "labels", "_labels")
TOGETHER = ("trainval",)  # what some call train and val in one
SPLIT_OPTIONS = ("split", "mode")
NOT_OPTIONS = (
    "root",
    "train",
    "transform",
    "target_transform",
    "transforms",
    "loader",
    "download",
)  # the harness's own


@dataclass(frozen=True)
class Part:
    """One of torchvision's splits: what it is called, its labels (N,), its files if it has them, else how to get an image."""

    split: str
    labels: tuple[int, ...]
    files: tuple[str, ...] | None
    opened: Any

    def source(
        self, root: Path, indices: Sequence[int], exif_rotate: bool, white: float | None
    ) -> ImageSource:
        """Some of its images, in this order."""
        if self.files is None:
            return TorchvisionSource(self.opened, tuple(indices), self.split)
        return FolderSource(root, tuple(self.files[i] for i in indices), exif_rotate, white)


@dataclass(frozen=True, eq=False)
class TorchvisionSource(ImageSource):
    """Images that a data set of torchvision gives, in this order."""

    opened: Any
    rows: tuple[int, ...]
    split: str

    def __len__(self) -> int:
        return len(self.rows)

    @cached_property
    def fingerprint(self) -> str:
        """SHA-256 of all pixels in order."""
        return digest_bytes(*_pixel_digests(self))

    def read(self, indices: Sequence[int], *, fast_dct: bool = False) -> list[Pixels]:  # noqa: ARG002  decoded there
        """The images at these indices.

        Raises:
            BadImageError: some cannot be read; it names all of them.
        """
        images, bad = [], {}
        for index in indices:
            try:
                images.append(np.array(self.opened[self.rows[index]][0].convert("RGB")))
            except Exception as error:  # noqa: BLE001  damaged images raise anything
                bad[self.name(index)] = str(error)
        if bad:
            raise BadImageError(bad, len(indices))
        return images

    def name(self, index: int) -> str:
        """The split and the position in it."""
        return f"{self.split}[{self.rows[index]}]"


def _pixel_digests(source: TorchvisionSource) -> Iterator[bytes]:
    for index in range(len(source)):
        (pixels,) = source.read([index])
        yield digest_bytes(repr(pixels.shape).encode(), pixels.tobytes()).encode()


def parts(
    name: str, root: Path, options: Mapping[str, Any], names: SplitNames
) -> tuple[list[Part], tuple[str, ...]]:
    """The splits of a data set on disk, and the names of its classes; () if it does not say them.

    Raises:
        UsageError: torchvision has no such data set, or it takes no such option, or its labels are no classes.
        DataMissingError: it is not there.
    """
    build = _class_of(name)
    allowed = [option for option in _parameters(build) if option not in NOT_OPTIONS]
    if strange := [option for option in options if option not in allowed]:
        what = f"torchvision's {name} has no option {strange[0]!r}; it takes: {', '.join(allowed) or 'none'}"
        raise UsageError(Problem(what, nearest=nearest(strange[0], allowed)))
    found = [_part(name, root, split, opened) for split, opened in _opened(build, root, options, names)]
    return [part for part, _ in found], found[0][1]


def _class_of(name: str) -> Any:
    from torchvision import datasets

    classes = [each for each in datasets.__all__ if inspect.isclass(getattr(datasets, each))]
    known = [each for each in classes if "root" in inspect.signature(getattr(datasets, each)).parameters]
    if name not in known:
        raise UsageError(
            Problem(f"torchvision has no data set {name!r} on disk", nearest=nearest(name, known))
        )
    return getattr(datasets, name)


def _parameters(build: Any) -> list[str]:
    """What a class takes, also those of its parents if it hands them on."""
    found: list[str] = []
    for base in build.__mro__[:-1]:
        own = inspect.signature(base).parameters.values()
        found += [each.name for each in own if each.kind is not each.VAR_KEYWORD]
        if not any(each.kind is each.VAR_KEYWORD for each in own):
            break
    return list(dict.fromkeys(found))


def _opened(build: Any, root: Path, options: Mapping[str, Any], names: SplitNames) -> list[tuple[str, Any]]:
    """The data sets of all splits that there are, by what they are called; one, called train, if there are no splits."""
    parameters = _parameters(build)
    if "train" in parameters:
        return [
            (split, _open(build, root, {**options, "train": split == "train"})) for split in ("train", "test")
        ]
    by = next((option for option in SPLIT_OPTIONS if option in parameters and option not in options), None)
    if by is None:
        return [("train", _open(build, root, options))]
    wanted = dict.fromkeys(
        [*filter(None, names), *(name for usual in SPLIT_NAMES.values() for name in usual), *TOGETHER]
    )
    found = []
    for split in wanted:
        try:
            found.append((split, _open(build, root, {**options, by: split})))
        except ValueError:  # it has no split of this name
            continue
    called, named = {split for split, _ in found}, set(names)
    if not called:
        raise UsageError(f"torchvision's {build.__name__} has none of these splits: {', '.join(wanted)}")
    if "train" in called:
        return [each for each in found if each[0] not in TOGETHER or each[0] in named]
    return [
        ("train" if split in TOGETHER and split not in named else split, opened) for split, opened in found
    ]


def _open(build: Any, root: Path, options: Mapping[str, Any]) -> Any:
    try:
        return build(str(root), **options)
    except (RuntimeError, OSError) as error:
        first = " ".join(str(error).split())[:200]
        what = f"torchvision's {build.__name__} is not in {root}: {first}"
        step = f'python -c "from torchvision.datasets import {build.__name__} as D; D({str(root)!r}, download=True)"'
        raise DataMissingError(Problem(what, next_step=step)) from error
    except TypeError as error:
        raise UsageError(f"torchvision's {build.__name__}: {error}") from error


def _part(name: str, root: Path, split: str, opened: Any) -> tuple[Part, tuple[str, ...]]:
    files, labels = _files(opened, root), _labels(opened)
    if labels is None or any(
        labels[i] != _class(opened[i][1]) for i in {0, len(labels) // 2, len(labels) - 1}
    ):
        labels = [_label_at(opened, i) for i in range(len(opened))]
    numbers = [label for label in labels if label is not None]
    if len(numbers) < len(labels) or not numbers:
        raise UsageError(f"torchvision's {name} has no class for each image, which a task needs")
    known = [each[0] if isinstance(each, tuple) else str(each) for each in getattr(opened, "classes", ())]
    classes = tuple(known) if known and max(numbers) < len(known) == len(set(known)) else ()
    return Part(split, tuple(numbers), files, opened), classes


def _agree(labels: Sequence[int | None], opened: Any) -> bool:
    """Whether labels are those that the data set itself gives, at its beginning, middle and end."""
    return all(labels[i] == _label_at(opened, i) for i in {0, len(labels) // 2, len(labels) - 1})


def _label_at(opened: Any, index: int) -> int | None:
    """The label that the data set itself gives; None if it gives no images with a class each."""
    try:
        return _class(opened[index][1])
    except (TypeError, ValueError, IndexError, KeyError):
        return None


def _class(target: Any) -> int | None:
    """A label as a number; None if it is not one."""
    try:
        return int(target) if np.ndim(target) == 0 and int(target) == target else None
    except (TypeError, ValueError):
        return None


def _files(opened: Any, root: Path) -> tuple[str, ...] | None:
    """The files of the images, relative to the root where they lie below it; None if they are not in files of their own."""
    for name in FILES:
        listed = getattr(opened, name, None)
        if not isinstance(listed, list) or len(listed) != len(opened) or not listed:
            continue
        paths = [each[0] if isinstance(each, tuple) else each for each in listed]
        if all(isinstance(path, (str, Path)) for path in paths) and Path(paths[0]).is_file():
            base = root.resolve()
            return tuple(
                str(path.relative_to(base)) if path.is_relative_to(base) else str(path)
                for path in (Path(each).absolute() for each in paths)
            )
    return None


def _labels(opened: Any) -> list[int | None] | None:
    for name in LABELS:
        listed = getattr(opened, name, None)
        if listed is not None and len(listed) == len(opened):
            return [_class(each) for each in (listed.tolist() if hasattr(listed, "tolist") else listed)]
    for name in FILES:
        listed = getattr(opened, name, None)
        if (
            isinstance(listed, list)
            and len(listed) == len(opened)
            and all(isinstance(each, tuple) for each in listed)
        ):
            return [_class(each[1]) for each in listed]
    return None
