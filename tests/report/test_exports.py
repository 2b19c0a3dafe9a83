import csv
import io
import json

import pandas as pd

from vitbench.report.exports import export, latex, markdown, terminal
from vitbench.report.views import boards


def test_csv_json_and_parquet_hold_the_same(tiny_records):
    rows = list(csv.DictReader(io.StringIO(export(tiny_records, "csv").decode())))
    parsed = json.loads(export(tiny_records, "json"))
    table = pd.read_parquet(io.BytesIO(export(tiny_records, "parquet")))
    assert len(rows) == len(parsed) == len(table) == len(tiny_records)
    for row, item, record in zip(rows, parsed, tiny_records, strict=True):
        wanted = record.metrics["top1"].value
        assert float(row["value"]) == item["value"] == wanted
        assert row["key"] == item["key"] == record.key
    assert table["value"].tolist() == [record.metrics["top1"].value for record in tiny_records]


def test_markdown_and_latex_escape_names(tiny_records):
    record = tiny_records[0]
    backbone = record.job.backbone.model_copy(update={"label": "a|b_c%$<i>"})
    job = record.job.model_copy(update={"backbone": backbone})
    (board,) = boards([record.model_copy(update={"job": job})])
    assert "a\\|b\\_c%$\\<i\\>" in markdown(board)
    assert r"a|b\_c\%\$<i>" in latex(board)
    assert r"\toprule" in latex(board)


def test_every_line_of_a_table_has_as_many_cells(tiny_records):
    text = export(tiny_records, "md").decode()
    for block in text.split("### ")[1:]:
        lines = [line for line in block.splitlines() if line.startswith("|")]
        assert len({line.count("|") for line in lines}) == 1
        assert len(lines) == 3


def test_the_terminal_table_lines_up(tiny_records):
    for block in terminal(boards(tiny_records)).split("\n\n"):
        label, rule, *lines = block.split("\n")
        assert label
        assert max(map(len, lines)) == len(rule)
