"""Tables of predictions: read as pandas reads them, refused where they would take too much memory."""

import io

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from vitbench.store.predictions import read_predictions


def parquet(**columns):
    buffer = io.BytesIO()
    pq.write_table(pa.table(columns), buffer, compression="zstd")
    return buffer.getvalue()


@pytest.mark.parametrize(
    ("columns", "rows", "said"),
    [
        ({"label": np.zeros(3_000_000, np.int64)}, 10, "3,000,000 predictions for 10 test examples"),
        ({f"c{i}": np.zeros(3_000_000) for i in range(30)}, 3_000_000, "too large for predictions"),
        (
            {"name": pa.DictionaryArray.from_arrays(np.zeros(5000, np.int32), ["x" * 10**6])},
            5000,
            "takes more memory",
        ),
        ({"label": [[1, 2]]}, 1, "a type that predictions never have"),
    ],
    ids=["rows", "columns", "texts", "nested"],
)
def test_tables_that_unpack_to_gigabytes_are_refused(columns, rows, said):
    data = parquet(**columns)
    assert len(data) < 2_000_000
    with pytest.raises(ValueError, match=said):
        read_predictions(data, rows)


def test_predictions_are_read_as_pandas_reads_them():
    table = pd.DataFrame({"name": ["a", "b", "a"], "label": [1, 2, 3], "top1_correct": [1.0, 0.0, None]})
    buffer = io.BytesIO()
    table.to_parquet(buffer, index=False)
    pd.testing.assert_frame_equal(read_predictions(buffer.getvalue(), 3), pd.read_parquet(buffer))
    with pytest.raises(ValueError, match="not readable"):
        read_predictions(b"PAR1", 3)
