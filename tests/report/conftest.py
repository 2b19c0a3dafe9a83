"""A board of VTAB with three backbones, for tests of charts."""

import pytest

from tests.making.boards import NAMES, board, with_all_that_a_record_can_hold
from vitbench.report.build import boards


@pytest.fixture(scope="package")
def vtab_records(tiny_records):
    made = board(tiny_records[0], NAMES[:3])
    return [with_all_that_a_record_can_hold(record) for record in made]


@pytest.fixture(scope="package")
def vtab_board(vtab_records):
    (found,) = boards(vtab_records, ["vit2021-t9"])
    return found
