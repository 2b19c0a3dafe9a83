"""Small images of three classes, and tables of them."""

import io
import json
import tarfile
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from PIL import Image

CLASSES = ("ant", "bee", "cat")


def picture(i, label):
    pixels = np.full((9, 7 + i % 3, 3), 60 * label + 20, np.uint8)
    pixels[i % 9] = 255 - i
    return pixels


def encoded(i, label):
    buffer = io.BytesIO()
    Image.fromarray(picture(i, label)).save(buffer, "PNG")
    return buffer.getvalue()


def as_parquet(rows, path, **how):
    """The same table as the hub has it."""
    path.parent.mkdir(exist_ok=True, parents=True)
    pq.write_table(table_of(rows), path, row_group_size=7, **how)


def table_of(rows):
    """The rows with images in structs, labels as numbers, and their names in the metadata."""
    images = [{"bytes": Path(name).read_bytes(), "path": name} for name in rows["path"]]
    labels = [CLASSES.index(label) for label in rows["label"]]
    table = pa.table(
        {
            "image": images,
            "label": labels,
            "split": rows["split"].tolist(),
            "patient": rows["patient"].tolist(),
        }
    )
    names = {"info": {"features": {"label": {"_type": "ClassLabel", "names": list(CLASSES)}}}}
    return table.replace_schema_metadata({"huggingface": json.dumps(names)})


def as_saved(rows, folder, *, random_access=False):
    """The same table as `datasets` saves it to disk: a folder of Arrow files for each split, listed in state.json."""
    splits = [str(split) for split in rows["split"].unique()]
    folder.mkdir(parents=True)
    (folder / "dataset_dict.json").write_text(json.dumps({"splits": splits}))
    for split in splits:
        part = rows[rows["split"] == split]
        names = [f"data-{k:05d}-of-00002.arrow" for k in range(2)]
        for name, half in zip(names, (part[: len(part) // 2], part[len(part) // 2 :]), strict=True):
            as_arrow(half, folder / split / name, random_access=random_access)
        state = {"_data_files": [{"filename": name} for name in names], "_split": split}
        (folder / split / "state.json").write_text(json.dumps(state))


def as_arrow(rows, path, *, random_access=False):
    """A table of images and labels as an Arrow file, in batches of seven rows."""
    table = table_of(rows).select(["image", "label", "patient"])
    path.parent.mkdir(parents=True, exist_ok=True)
    writer = pa.ipc.new_file if random_access else pa.ipc.new_stream
    with writer(str(path), table.schema) as file:
        file.write_table(table, max_chunksize=7)


def as_tars(rows, folder, per_file=7, prefix=""):
    """The same images in webdataset's tar files, in a folder for each split as CLIP_benchmark has them."""
    for split, part in rows.groupby("split"):
        for k in range(0, len(part), per_file):
            target = folder / split / f"{prefix}{k // per_file}.tar"
            target.parent.mkdir(parents=True, exist_ok=True)
            with tarfile.open(target, "w") as tar:
                for name, label in zip(
                    part["path"][k : k + per_file], part["label"][k : k + per_file], strict=True
                ):
                    key = Path(name).stem
                    for ending, data in (
                        ("png", Path(name).read_bytes()),
                        ("cls", b"%d" % CLASSES.index(label)),
                    ):
                        member = tarfile.TarInfo(f"s{key}.{ending}")
                        member.size = len(data)
                        tar.addfile(member, io.BytesIO(data))
    (folder / "classnames.txt").write_text("\n".join(CLASSES))
