"""The ViT, BiT and VTAB tables, transcribed a second time from other copies: the published rows agree to the last digit."""

import csv
import re
import statistics
from pathlib import Path

import pytest

from vitbench.published import MEANS, published

HERE = Path(__file__).parent
VTAB_NAMES = {
    "CIFAR-100": "cifar100", "Caltech101": "caltech101", "Camelyon": "patch_camelyon", "Clevr-Count": "clevr_count",
    "Clevr-Dist": "clevr_distance", "DMLab": "dmlab", "DTD": "dtd", "EuroSAT": "eurosat", "Flowers102": "oxford_flowers102",
    "KITTI-Dist": "kitti_distance", "Pets": "oxford_iiit_pet", "Resisc45": "resisc45", "Retinopathy": "diabetic_retinopathy",
    "SVHN": "svhn", "Sun397": "sun397", "dSpr-Loc": "dsprites_location", "dSpr-Orient": "dsprites_orientation",
    "sNORB-Azim": "smallnorb_azimuth", "sNORB-Elev": "smallnorb_elevation",
}  # fmt: skip


def table(title):
    """The cells of a transcribed table, (head of the line, head of the column): (value, standard deviation or None)."""
    text = (HERE / "tables.txt").read_text(encoding="utf-8")
    (body,) = (part for part in text.split("\n== ")[1:] if part.startswith(title))
    heads, *lines = [
        [cell.strip() for cell in line.split("|")] for line in body.splitlines()[1:] if "|" in line
    ]
    cells = {}
    for first, *values in lines:
        for head, cell in zip(heads[1:], values, strict=True):
            if cell != "-":
                value, _, std = cell.partition(" ± ")
                cells[first, head] = (float(value), float(std) if std else None)
    return cells


def printed(rows, name):
    """What our rows have, in the same form; `name` gives the head of a row's column."""
    found = {
        (dataset, name(row)): (value.value, value.std)
        for row in rows
        for dataset, value in row.results.items()
        if not value.derived
    }
    assert sum(len([v for v in row.results.values() if not v.derived]) for row in rows) == len(found)
    return found


def rows_of(prefix):
    return [row for row in published() if row.id.startswith(prefix)]


def model_and_data(row):
    return "Noisy Student" if row.model.startswith("Noisy") else f"{row.model} {row.pretrain_data}"


def dropout_of(row):
    return re.search(r"dropout ([\d.]+),", row.note).group(1)


def test_vits_table_2():
    wanted = table("arXiv 2010.11929v2, Table 2")
    rows = [*rows_of("vit2021-t2-"), *rows_of("bit2020-t1-bit-l-r152x4-vtab")]
    core_days = {
        ("core days", model_and_data(row)): (row.compute.tpu_v3_core_days, None)
        for row in rows_of("vit2021-t2-")
    }
    means = {
        key: v for key, v in printed(rows_of("vit2021-t9-"), model_and_data).items() if "vtab_mean" in key
    }
    assert {**printed(rows, model_and_data), **core_days, **means} == wanted


def test_vits_table_5():
    cells = table("arXiv 2010.11929v2, Table 5")
    wanted = {
        (task.split()[1], f"{model} {task.split()[0]}"): value for (task, model), value in cells.items()
    }
    found = printed(rows_of("vit2021-t5-"), model_and_data)
    rest = {key: value for key, value in wanted.items() if key not in found}
    assert {key: value for key, value in wanted.items() if key in found} == found
    # The other columns of JFT-300M are those of Table 6, and not repeated in published.yaml.
    epochs = {"ViT-B/16": "7", "ViT-B/32": "7", "ViT-L/16": "14", "ViT-L/32": "7"}
    table_6 = printed(rows_of("vit2021-t6-"), lambda row: f"{row.model} {row.pretrain_epochs:g}")
    assert len(rest) == 24
    for (task, column), value in rest.items():
        model, data = column.split()
        assert data == "JFT-300M"
        assert table_6[task, f"{model} {epochs[model]}"] == value


def test_vits_table_6():
    text = (HERE / "tables.txt").read_text(encoding="utf-8").split("Table 6")[1].split("\n== ")[0]
    heads, *lines = [[c.strip() for c in line.split("|")] for line in text.splitlines() if "|" in line]
    wanted = {
        (line[0], float(line[1])): dict(zip(heads[2:], map(float, line[2:]), strict=True)) for line in lines
    }
    found = {
        (row.model, row.pretrain_epochs): {
            **{task: value.value for task, value in row.results.items()},
            "exaFLOPs": row.compute.exaflops,
        }
        for row in rows_of("vit2021-t6-")
    }
    assert len(wanted) == 18
    assert found == wanted
    assert {row.pretrain_data for row in rows_of("vit2021-t6-")} == {"JFT-300M"}


def test_vits_table_9():
    wanted = table("arXiv 2010.11929v2, Table 9")
    means = {column: value for (task, column), value in wanted.items() if task == "printed mean"}
    found = printed(rows_of("vit2021-t9-"), model_and_data)
    own_means = {column: value for (task, column), value in found.items() if task == "vtab_mean"}
    assert {k: v for k, v in found.items() if k[0] != "vtab_mean"} == {
        k: v for k, v in wanted.items() if k[0] != "printed mean"
    }
    # Table 2 prints the means with another digit.
    assert {column: round(mean, 1) for column, (mean, _) in own_means.items()} == {
        column: mean for column, (mean, _) in means.items()
    }


def test_bits_tables():
    wanted = table("arXiv 1912.11370v3, Table 1")
    found = printed(rows_of("bit2020-t1-"), lambda row: row.model)
    assert found == wanted
    assert printed(rows_of("bit2020-t2-"), lambda row: row.model) == table("arXiv 1912.11370v3, Table 2")
    assert printed([*rows_of("bit2020-t4-"), *rows_of("bit2020-t5-")], lambda row: row.model) == table(
        "arXiv 1912.11370v3, Tables 4 and 5"
    )


def test_the_rows_of_vits_readme_are_those_of_its_tables():
    readme = "google-research/vision_transformer README at c6de1e5, "
    dropout = [row for row in rows_of("vit-readme-") if "-do0." in row.id]
    steps = [row for row in rows_of("vit-readme-") if row.id.endswith("steps")]
    mixers = rows_of("vit-readme-mixer-")
    augreg = [row for row in rows_of("augreg2022-t3-") if row.id.endswith("-i21k-300-384")]
    assert len(rows_of("vit-readme-")) == len(dropout) + len(steps) + len(mixers)
    for title, rows, name in (
        ('"Expected ViT', dropout, lambda row: f"{row.model} {dropout_of(row)}"),
        ("shorter", steps, lambda row: row.note),
        ('"Expected Mixer', mixers, model_and_data),
        ("recommended AugReg", augreg, lambda row: row.model.removeprefix("ViT-").removesuffix(" AugReg")),
    ):  # fmt: skip
        assert printed(rows, name) == table(readme + title), title


def test_the_rows_of_vtabs_leaderboard_are_those_of_its_file():
    lines = (HERE / "vtab_leaderboard.csv").read_text(encoding="utf-8").splitlines()[1:]
    wanted = {}
    for line in csv.DictReader(lines):
        suffix = {"1000": "1k", "full": "full"}[line["examples"]]
        for name, dataset in VTAB_NAMES.items():
            wanted[line["method"], suffix, dataset] = float(line[name])
    found = {
        (row.model.removeprefix("ResNet-50 "), row.id.rpartition("-")[2], dataset): value.value
        for row in rows_of("vtab-lb-")
        for dataset, value in row.results.items()
        if not value.derived
    }
    assert len(wanted) == 16 * 2 * 19
    assert found.keys() == wanted.keys()
    assert found == {
        key: pytest.approx(value, abs=0.00501) for key, value in wanted.items()
    }  # printed to hundredths
    assert {row.protocol for row in rows_of("vtab-lb-") if row.id.endswith("-1k")} == {"vtab-1k-finetune"}
    assert {row.protocol for row in rows_of("vtab-lb-") if row.id.endswith("-full")} == {"vtab-full-finetune"}
    means = {
        (method, suffix, name): statistics.fmean(wanted[method, suffix, part] for part in parts)
        for method, suffix, _ in wanted
        for name, parts in MEANS.items()
        if name.startswith("vtab_")
    }
    derived = {
        (row.model.removeprefix("ResNet-50 "), row.id.rpartition("-")[2], name): value.value
        for row in rows_of("vtab-lb-")
        for name, value in row.results.items()
        if value.derived
    }
    assert derived == {key: pytest.approx(value, abs=0.0051) for key, value in means.items()}
