"""Images of the most confident errors: the ones that were scored, or none."""

import base64
import io
import json
import re

import numpy as np
from PIL import Image

import vitbench
from tests.making.command import vitbench as command
from tests.making.suites import TINY
from vitbench.core.registry import TASKS
from vitbench.report.cell_details import cell_name
from vitbench.report.mistake_images import most_confident_errors


def ran(suite_file, out, text=TINY):
    return vitbench.run(suite_file(text), out)


def test_a_page_embeds_the_most_confident_errors(suite_file, tmp_path):
    ran(suite_file, tmp_path / "run")
    done = command("report", tmp_path / "run", "--with-images")
    assert done.stderr == ""
    page = (tmp_path / "run" / "report.html").read_text()
    carried = json.loads(re.search(r'id="details">(.*?)</script>', page)[1])["cells"]
    assert all(cell["worst"] for cell in carried.values())
    assert all(len(cell["worst"]) <= 24 for cell in carried.values())
    plain = command("report", tmp_path / "run", "-o", tmp_path / "plain.html")
    assert plain.returncode == 0
    assert "data:image" not in (tmp_path / "plain.html").read_text()


def test_they_are_the_test_images_with_their_labels(suite_file, tmp_path):
    records = ran(suite_file, tmp_path / "run")
    found = most_confident_errors([tmp_path / "run"], records, lambda text: None)
    record = next(r for r in records if r.job.protocol.name == "knn")
    images = found[cell_name([record])]
    task = TASKS.make("digits", {})[1]
    test = task.test()
    assert len(images) == len(record.worst)
    for position, (image, label, predicted) in zip(record.worst, images, strict=True):
        shown = np.asarray(Image.open(io.BytesIO(base64.b64decode(image.partition(",")[2]))))
        (wanted,) = test.source.read([int(test.indices[position])])
        assert (shown == wanted).all()
        assert label == task.class_names[test.labels[position]] != predicted


def test_missing_images_are_reported(suite_file, tmp_path):
    records = ran(suite_file, tmp_path / "run")
    other = [
        r.model_copy(update={"data": r.data.model_copy(update={"fingerprints": {"test": "0" * 64}})})
        for r in records
    ]
    warnings = []
    assert most_confident_errors([tmp_path / "run"], other, warnings.append) == {}
    assert len(warnings) == 3
    assert all("not the ones that were scored" in text for text in warnings)
    warnings.clear()
    assert most_confident_errors([tmp_path / "elsewhere"], records, warnings.append) == {}
    assert all("predictions file is missing" in text for text in warnings)
