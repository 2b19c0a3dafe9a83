"""Diabetic retinopathy in TFDS config `btgraham-300`, not Kaggle's raw images (docs/protocols.md#diabetic-retinopathy)."""

from vitbench.api import Task
from vitbench.core.registry import register_task
from vitbench.data.tfds.dataset import DataSet, ManualFile, declare
from vitbench.data.tfds.example import Example, stored
from vitbench.data.tfds.splits import official, prepared_task


def patient(example: Example) -> int:
    """The patient, whose two eyes belong together: the number before the underscore in a name such as `10_left`.

    Raises:
        ValueError: the name has no such number.
    """
    return int(example.text("name").partition("_")[0])


KAGGLE = "kaggle.com/c/diabetic-retinopathy-detection"
RETINOPATHY = declare(
    DataSet(
        "diabetic_retinopathy_detection/btgraham-300",
        majors=(3,),
        # Kaggle's usage column: validation is Public, test is Private
        sizes={"train": 35_126, "validation": 10_906, "test": 42_670},
        labels={"label": stored(), "patient": patient},
        clusters="patient",
        key=lambda example, _split: example.text("name"),
        title=lambda example: example.text("name"),
        manual=(
            ManualFile("train", 35_000_000_000, f"{KAGGLE}: train.zip.001 … .005, joined and unzipped"),
            ManualFile("test", 53_000_000_000, f"{KAGGLE}: test.zip.001 … .007, joined and unzipped"),
            ManualFile("sample", 15_000_000, f"{KAGGLE}: sample.zip, unzipped"),
            ManualFile("trainLabels.csv", 500_000, f"{KAGGLE}: trainLabels.csv.zip, unzipped"),
        ),
    )
)


@register_task(
    "vtab/diabetic_retinopathy",
    version=3,
    group="specialized",
    data=RETINOPATHY.content,
    dataset="diabetic_retinopathy_detection/btgraham-300",
    n_test=42_670,
    clusters="patients",
    source="VTAB; TA:data/diabetic_retinopathy.py",
)
def diabetic_retinopathy() -> Task:
    """5 grades of retinopathy, up to 540 x 540 px on a grey background; about 74 % are grade 0."""
    return prepared_task(RETINOPATHY, official(), classes=5)
