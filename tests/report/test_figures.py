"""Charts written to files for papers."""

from tests.making.boards import NAMES, board, with_all_that_a_record_can_hold
from tests.making.command import vitbench as command
from vitbench.report.build import boards
from vitbench.report.charts import CHARTS
from vitbench.report.figures import figures, write_figures


def test_charts_have_names_of_their_own():
    assert len({chart.name for chart in CHARTS}) == len(CHARTS)


def test_every_chart_is_written_in_three_formats(vtab_records, tmp_path):
    few = [
        with_all_that_a_record_can_hold(r) for r in board(vtab_records[0], NAMES[:2], ("digits", "vtab/dtd"))
    ]
    boards_of_few = boards(few)
    written = write_figures(tmp_path, boards_of_few, few)
    names = {name for name, _ in figures(boards_of_few, few)}
    assert names == {
        "finetune-1k-cost-B",
        "finetune-1k-cost-C",
        "finetune-1k-seeds",
        "finetune-1k-trials-base_lr",
    }
    assert {path.name for path in written} == {f"{n}.{kind}" for n in names for kind in ("svg", "png", "pdf")}
    starts = {"svg": b"<svg", "png": b"\x89PNG", "pdf": b"%PDF"}
    for path in written:
        assert path.read_bytes().startswith(starts[path.suffix[1:]])


def test_the_command_writes_figures_beside_the_page(tiny, tmp_path):
    assert command("run", tiny, "--out", tmp_path / "run").returncode == 0
    done = command("report", tmp_path / "run", "--figures", tmp_path / "figures")
    assert done.returncode == 0
    names = {path.name for path in (tmp_path / "figures").iterdir()}
    assert {"knn-full-seeds.pdf", "ridge-probe-full-trials-l2.svg"} <= names
    assert str(tmp_path / "figures" / "knn-full-seeds.pdf") in done.stdout
