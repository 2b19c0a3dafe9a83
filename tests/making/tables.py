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
    """The same table as the hub has it: images in structs, labels as numbers, names in the metadata."""
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
    path.parent.mkdir(exist_ok=True, parents=True)
    pq.write_table(
        table.replace_schema_metadata({"huggingface": json.dumps(names)}), path, row_group_size=7, **how
    )


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
