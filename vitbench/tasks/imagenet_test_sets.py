"""Further test sets of ImageNet: V2, A, R, Sketch and C, from TFDS or from folders (docs/protocols.md#further-test-sets)."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache, partial
from importlib.util import find_spec
from pathlib import Path
from typing import Annotated, Literal, get_args

import numpy as np
from pydantic import AfterValidator, BeforeValidator

from vitbench.api import Split, TestSet
from vitbench.core.errors import DataMissingError, Problem
from vitbench.core.files import digest_bytes
from vitbench.data.image_folder import FolderSource, class_folders, image_files
from vitbench.data.tfds.dataset import DataSet, ManualFile, declare
from vitbench.data.tfds.example import Example
from vitbench.data.tfds.only_split import OnlySplit

TestSetName = Literal["v2", "v2-threshold", "v2-top", "a", "r", "sketch", "c"]
ORDER: tuple[TestSetName, ...] = get_args(TestSetName)

# Mean error of AlexNet over the five severities, which those of a network are divided by (arXiv 1903.12261, sec. 4.1; as
# AugMix's code has them: AX:imagenet.py, ALEXNET_ERR).
ALEXNET_ERRORS = {
    "gaussian_noise": 0.886428, "shot_noise": 0.894468, "impulse_noise": 0.922640, "defocus_blur": 0.819880,
    "glass_blur": 0.826268, "motion_blur": 0.785948, "zoom_blur": 0.798360, "snow": 0.866816, "frost": 0.826572,
    "fog": 0.819324, "brightness": 0.564592, "contrast": 0.853204, "elastic_transform": 0.646056, "pixelate": 0.717840,
    "jpeg_compression": 0.606500,
}  # fmt: skip
SEVERITIES = range(1, 6)
C_PARTS = tuple(f"{corruption}_{severity}" for corruption in ALEXNET_ERRORS for severity in SEVERITIES)
VAL_TAR = ManualFile("ILSVRC2012_img_val.tar", 6_744_924_160, "image-net.org, ILSVRC 2012")


def _file_name(example: Example, _split: str = "") -> str:
    return example.text("file_name")


def _class_and_file(example: Example, _split: str) -> str:
    return example.text("file_name").replace("/", "_")


@dataclass(frozen=True)
class Known:
    """What is known of a test set: its data sets in TFDS by part, the images of a part, and its classes.

    `classes_in` is the list of its classes that timm ships, where it has 200 of the 1,000.
    """

    data: Mapping[str, DataSet]
    size: int
    classes_in: str = ""
    reference_errors: Mapping[str, float] = field(default_factory=dict)


def _test_split(
    name: str, test_set: TestSetName, size: int, at_least: tuple[int, int], key: Callable[[Example, str], str]
) -> dict[str, DataSet]:
    """A data set that is one part, with the split `test`, from this version on."""
    data = DataSet(
        name,
        majors=at_least[:1],
        at_least=at_least,
        sizes={"test": size},
        key=key,
        title=_file_name,
        test_set=f"imagenet/{test_set}",
    )
    return {"": declare(data)}


def _corrupted(part: str) -> DataSet:
    """A corruption of all validation images."""
    return declare(
        DataSet(
            f"imagenet2012_corrupted/{part}",
            majors=(3,),
            at_least=(3, 1),
            sizes={"validation": 50_000},
            key=_file_name,
            title=_file_name,
            manual=(VAL_TAR,),
            test_set="imagenet/c",
        )
    )


# Sources and versions: docs/protocols.md#further-test-sets.
KNOWN: dict[TestSetName, Known] = {
    "v2": Known(_test_split("imagenet_v2/matched-frequency", "v2", 10_000, (3, 0), _class_and_file), 10_000),
    "v2-threshold": Known(
        _test_split("imagenet_v2/threshold-0.7", "v2-threshold", 10_000, (3, 0), _class_and_file), 10_000
    ),
    "v2-top": Known(_test_split("imagenet_v2/topimages", "v2-top", 10_000, (3, 0), _class_and_file), 10_000),
    "a": Known(_test_split("imagenet_a", "a", 7_500, (0, 1), _file_name), 7_500, "imagenet_a_indices.txt"),
    "r": Known(
        _test_split("imagenet_r", "r", 30_000, (0, 2), _class_and_file), 30_000, "imagenet_r_indices.txt"
    ),
    "sketch": Known(_test_split("imagenet_sketch", "sketch", 50_889, (1, 0), _file_name), 50_889),
    "c": Known({part: _corrupted(part) for part in C_PARTS}, 50_000, reference_errors=ALEXNET_ERRORS),
}
# TFDS makes ImageNet-C anew, from the validation images; the release's own images are what its paper asks for.
MADE_ANEW = "corrupted by TFDS, not the released images, which its authors ask for"
RESIZED = "the reference does not resize its images, crops of 224 px; of the presets, only `squash` at 224 px does not"


def _listed(value: object) -> object:
    """One name stands for a list of one: it is how `--set` writes it."""
    return (value,) if isinstance(value, str) else value


def _ordered(
    value: tuple[TestSetName, ...] | dict[TestSetName, Path] | None,
) -> tuple[TestSetName, ...] | dict[TestSetName, Path] | None:
    """The sets in one order, each once, so that a job's key does not depend on how they are listed; None without any."""
    chosen = [name for name in ORDER if value and name in value]
    if isinstance(value, dict):
        return {name: value[name] for name in chosen} or None
    return tuple(chosen) or None


# Names, of prepared data sets, or the folder of each.
TestSets = Annotated[
    tuple[TestSetName, ...] | dict[TestSetName, Path] | None,
    BeforeValidator(_listed),
    AfterValidator(_ordered),
]


@cache
def classes_of(name: TestSetName) -> tuple[int, ...] | None:
    """The classes of a test set among ImageNet's 1,000, in ascending order; None: all of them.

    Read from timm, which ships the lists; a test compares them with the releases'.

    Raises:
        DataMissingError: timm is not installed.
    """
    if not KNOWN[name].classes_in:
        return None
    spec = find_spec("timm")
    if spec is None or spec.origin is None:
        raise DataMissingError(
            "timm, which ships the classes of ImageNet-A and -R, is not installed: pip install timm"
        )
    file = Path(spec.origin).parent / "data" / "_info" / KNOWN[name].classes_in
    return tuple(sorted(int(line) for line in file.read_text(encoding="utf-8").split()))


def content_of(names: Sequence[TestSetName]) -> str:
    """SHA-256 of the prepared copies of these test sets; '' without any.

    Raises:
        DataMissingError: one is not prepared.
    """
    found = [data.content() for name in names for data in KNOWN[name].data.values()]
    return digest_bytes(*(digest.encode() for digest in found)) if found else ""


def further_sets_of(chosen: TestSets, class_names: Sequence[str]) -> tuple[TestSet, ...]:
    """The chosen test sets of a task with ImageNet's classes, named by WordNet ids.

    Raises:
        DataMissingError: one is not there, or has other classes.
    """
    if not chosen:
        return ()
    if isinstance(chosen, dict):
        return tuple(_in_folder(name, path, class_names) for name, path in chosen.items())
    return tuple(_prepared(name, class_names) for name in chosen)


def _prepared(name: TestSetName, class_names: Sequence[str]) -> TestSet:
    known = KNOWN[name]
    missing: list[Problem] = []
    parts: dict[str, OnlySplit] = {}
    for part, data in known.data.items():
        try:
            parts[part] = OnlySplit(data, class_names)
        except DataMissingError as error:
            missing += error.problems
    if missing:
        absent = [data for part, data in known.data.items() if part not in parts]
        if len(absent) > 1:
            what = f"{len(absent)} of the {len(known.data)} data sets of the test set {name} are not ready: {absent[0].name}, …"
            missing = [Problem(what, next_step=f"vitbench data prepare {absent[0].builder}")]
        raise DataMissingError(missing, [data.name for data in absent])
    first = next(iter(parts.values()))
    return TestSet(
        name,
        {part: split.open for part, split in parts.items()},
        classes_of(name),
        known.size,
        dataset=first.data.builder if len(parts) > 1 else first.data.name,
        version=first.version,
        departures=(MADE_ANEW, RESIZED) if name == "c" else (),
        reference_errors=known.reference_errors,
    )


# ---------------------------------------------------------------- folders


def _in_folder(name: TestSetName, path: Path, class_names: Sequence[str]) -> TestSet:
    """A test set as it is released: class folders, named by WordNet id or, in V2, by number; C's by corruption and severity."""
    known = KNOWN[name]
    classes = classes_of(name)
    wanted = class_names if classes is None else [class_names[i] for i in classes]
    folders = {"": path} if list(known.data) == [""] else dict(_folders_of_c(path))
    for folder in folders.values():
        _class_folders(folder, wanted)
    return TestSet(
        name,
        {part: partial(_open, folder, class_names, wanted) for part, folder in folders.items()},
        classes,
        known.size,
        dataset=path.name,
        departures=(RESIZED,) if name == "c" else (),
        reference_errors=known.reference_errors,
    )


def _folders_of_c(path: Path) -> Iterator[tuple[str, Path]]:
    """The folder of every corruption and severity, also within the groups that the release's archives are named after."""
    for part in C_PARTS:
        corruption, _, severity = part.rpartition("_")
        inside = Path(corruption) / severity
        places = [path / inside, *sorted(path.glob(f"*/{inside}"))]
        found = next((place for place in places if place.is_dir()), None)
        if found is None:
            step = "extract all of the release's archives there, or leave `c` out"
            raise DataMissingError(Problem(f"{path} has no folder {inside}", next_step=step))
        yield part, found


def _class_folders(folder: Path, wanted: Sequence[str]) -> tuple[str, ...]:
    """The names of the class folders in the order of the classes: WordNet ids, or numbers.

    Raises:
        DataMissingError: they are not these classes.
    """
    found = set(class_folders(folder))
    # Numbers sort otherwise as text: 10 comes before 2.
    numbers = tuple(str(i) for i in range(len(wanted)))
    for names in (tuple(wanted), numbers):
        if found == set(names):
            return names
    differing = sorted(found ^ set(wanted))
    what = f"{folder} does not hold the {len(wanted)} class folders of this test set: {len(differing)} differ"
    raise DataMissingError(f"{what}, such as {', '.join(differing[:3])}")


def _open(folder: Path, class_names: Sequence[str], wanted: Sequence[str]) -> Split:
    files, places = image_files(folder, "", _class_folders(folder, wanted))
    label_of = np.asarray([class_names.index(name) for name in wanted], dtype=np.int64)
    source = FolderSource(folder, tuple(files), exif_rotate=False)
    return Split(source, np.arange(len(files)), label_of[np.asarray(places, dtype=np.int64)])
