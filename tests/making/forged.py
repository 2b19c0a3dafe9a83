"""Submissions whose contents were changed, with all digests fitting."""

import hashlib
import io
import zipfile

from vitbench.core.record import Metric
from vitbench.core.wilson import wilson
from vitbench.store.record_file import encode, load
from vitbench.store.run_dir import RunDir
from vitbench.store.submission import check


def changed(path, change):
    """The same file with another content of its first record."""
    target = path.with_name("changed.zip")
    with zipfile.ZipFile(path) as old, zipfile.ZipFile(target, "w") as new:
        for name in old.namelist():
            for other, data in change(name, old.read(name)):
                new.writestr(other, data)
    return target


def forged(packed, tmp_path, change, table=None, which=lambda record: "-shot" in record.job.budget):
    """The submission, checked, with one record changed, and its predictions if `table` changes them; all digests fit."""
    first = max(load(tmp_path / "run"), key=which)
    rows = RunDir(tmp_path / "run").predictions(first)
    if table is not None:
        rows = table(rows)
    buffer = io.BytesIO()
    rows.to_parquet(buffer, index=False)
    right = rows["top1_correct"].to_numpy(float)
    low, high = wilson(int(right.sum()), len(right))
    metrics = {"top1": Metric(value=right.mean(), ci_low=low, ci_high=high, n=len(right))}
    digest = hashlib.sha256(buffer.getvalue()).hexdigest()
    record = first.model_copy(update={"metrics": metrics, "further": {}, "predictions_sha256": digest})
    record = change(record)
    contents = {
        f"records/{first.key}.json": encode(record),
        f"predictions/{first.key}.parquet": buffer.getvalue(),
    }
    return check(changed(packed, lambda name, data: [(name, contents.get(name, data))])), first.key


def same(record):
    return record


def with_data(record, **facts):
    return record.model_copy(update={"data": record.data.model_copy(update=facts)})
