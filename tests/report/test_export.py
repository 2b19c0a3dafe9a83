import csv
import io
import json

import pandas as pd
import pytest

from tests.making.boards import NAMES, VTAB
from tests.making.boards import board as made_board
from vitbench.core.record import Check, Failure
from vitbench.report.build import boards
from vitbench.report.export import export, latex, markdown, terminal


def test_csv_json_and_parquet_hold_the_same(tiny_records):
    rows = list(csv.DictReader(io.StringIO(export(tiny_records, "csv").decode())))
    parsed = json.loads(export(tiny_records, "json"))
    table = pd.read_parquet(io.BytesIO(export(tiny_records, "parquet")))
    assert len(rows) == len(parsed) == len(table) == 5 * len(tiny_records)
    for i, record in enumerate(tiny_records):
        row, item = rows[5 * i], parsed[5 * i]
        wanted = record.metrics["top1"].value
        assert float(row["value"]) == item["value"] == wanted
        assert row["key"] == item["key"] == record.key
        for row, item, (name, metric) in zip(
            rows[5 * i + 1 :], parsed[5 * i + 1 :], record.further.items(), strict=False
        ):
            assert (row["metric"], item["metric"]) == (name, name)
            assert item["value"] == metric.value
            assert (row["ci_low"], row["ci_high"]) == tuple(
                "" if bound is None else str(bound) for bound in (metric.ci_low, metric.ci_high)
            )
            assert row["metric_note"] == metric.note
    assert table["value"].tolist()[::5] == [record.metrics["top1"].value for record in tiny_records]


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


def test_tables_of_vtab_have_its_groups_compute_and_published_rows(tiny_records):
    records = made_board(tiny_records[0], [NAMES[0], NAMES[1]], tuple(VTAB), published=("vit2021-t9",))
    (board,) = boards(records)
    lines = [line for line in markdown(board).splitlines() if line.startswith("|")]
    head, _, *rows = ([cell.strip() for cell in line.strip("|").split("|")] for line in lines)
    groups = ("natural", "specialized", "structured", "group mean")
    assert head[-7:] == [*groups, "mean", "95 % interval", "TPUv3-core-days"]
    assert len(rows) == 2 + 3
    by_name = {row[1]: row for row in rows}
    for row in board.rows[:2]:
        means = [f"{100 * mean:.1f}" for _, mean in board.group_means(row)] + [f"{100 * row.mean:.1f}"]
        shown = by_name[row.backbone.replace("_", "\\_")]
        assert shown[-7:-2] == means
        assert shown[-2].split(" to ") == [f"{100 * row.interval.low:.1f}", f"{100 * row.interval.high:.1f}"]
        assert shown[-1] == ("230" if "large" in row.backbone else "–")
    (huge,) = [row for name, row in by_name.items() if name.startswith("ViT-H/14")]
    assert huge[0] == "–"
    assert huge[-3:] == ["77.6", "–", "2500"]
    body = [line for line in latex(board).splitlines() if line.endswith("\\\\")]
    assert len({line.count("&") for line in body}) == 1
    assert latex(board).startswith("% finetune")
    assert "r" * (19 + 7) in latex(board)
    assert latex(board).count(r"\textbf{") == 19 + 1  # the best score of each task, and the best mean
    assert rf"\textbf{{{100 * board.rows[0].mean:.1f}}}" in latex(board)
    note = "± is the standard deviation over 3 seeds (n − 1), not an interval"
    assert f"% {note}" in latex(board).splitlines()
    assert note in markdown(board)
    assert "ViT-H" not in terminal([board])


def test_gaps_and_departures_are_marked_in_pasted_tables(tiny_records):
    records = made_board(tiny_records[0], NAMES[:1], ("a", "b"))
    bad = Check(item="split", ok=False, reason="another split")
    records = [records[0], *(r.model_copy(update={"conformance": (bad,)}) for r in records[3:])]
    (board,) = boards(records)
    assert "(1/3 seeds)" in markdown(board)
    assert "†" in markdown(board).split("differs from the reference: another split")[0]
    assert r"$\dagger$" in latex(board)
    assert "% † differs from the reference" in latex(board)


@pytest.mark.parametrize("label", ["=1+1", "+1", "-1", "@x", "\tx", "plain"])
def test_a_label_is_no_formula_in_a_spreadsheet(tiny_records, label):
    first = tiny_records[0]
    backbone = first.job.backbone.model_copy(update={"label": label})
    record = first.model_copy(update={"job": first.job.model_copy(update={"backbone": backbone})})
    cell = next(csv.DictReader(io.StringIO(export([record], "csv").decode())))["backbone"]
    assert cell == (label if label == "plain" else f"'{label}")
    assert json.loads(export([record], "json"))[0]["backbone"] == label


def test_a_carriage_return_does_not_end_a_row(tiny_records):
    """Messages of progress bars, and of Windows, have some."""
    failure = Failure(kind="X", message="10 %\r20 %\r\nfailed")
    record = tiny_records[0].model_copy(update={"status": "failed", "metrics": {}, "failure": failure})
    (row,) = csv.DictReader(io.StringIO(export([record], "csv").decode(), newline=""))
    assert row["error"] == "10 %\n20 %\nfailed"
    assert json.loads(export([record], "json"))[0]["error"] == failure.message
