"""Class scores as stored: one list of C float16 numbers per test example, in the order of the predictions, as Parquet.

Readable without vitbench: `np.stack(pd.read_parquet(FILE)["scores"])`. The sizes that a file declares are checked before it is
unpacked.
"""

from __future__ import annotations

import io
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    import pyarrow.parquet as pq

COLUMN = "scores"
SLACK_BYTES = 2**20  # of a file's own headers, beyond the numbers and Parquet's two bytes of level per number
MOST_BYTES = 8 * 2**30  # unpacked: a million examples of 4,000 classes


def encode_scores(scores: NDArray[np.float16]) -> bytes:
    """Return the contents of the file of class scores (N, C)."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    flat = pa.array(np.ascontiguousarray(scores, dtype=np.float16).reshape(-1))
    table = pa.table({COLUMN: pa.FixedSizeListArray.from_arrays(flat, scores.shape[1])})
    buffer = io.BytesIO()
    # No dictionary: then a file's declared sizes are those of what it unpacks to.
    pq.write_table(table, buffer, compression="zstd", use_dictionary=False)
    return buffer.getvalue()


def decode_scores(data: bytes, rows: int, classes: int) -> NDArray[np.float16]:
    """Return class scores (rows, classes) from the contents of their file.

    Raises:
        ValueError: it is not such a file, or has another shape.
    """
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        file = pq.ParquetFile(io.BytesIO(data))
        _check_sizes(file, rows, classes)
        column = file.read([COLUMN])[COLUMN].combine_chunks()
        values = column.flatten()
        if column.null_count or values.null_count:
            raise ValueError("scores are missing")
        found: NDArray[np.float16] = values.to_numpy(zero_copy_only=True).reshape(rows, classes)
    except (pa.ArrowException, OSError, KeyError) as error:
        raise ValueError(f"not readable: {error}") from error
    if np.isnan(found).any():
        raise ValueError("scores are not numbers")
    return found


def _check_sizes(file: pq.ParquetFile, rows: int, classes: int) -> None:
    """Check what a file declares of its contents.

    Raises:
        ValueError: it is not what scores (rows, classes) have.
    """
    import pyarrow as pa

    facts, schema = file.metadata, file.schema_arrow
    wanted = pa.list_(pa.float16(), classes)
    if schema.names != [COLUMN] or schema.field(COLUMN).type != wanted:
        raise ValueError(f"its columns are not one of {classes:,} float16 numbers per row")
    groups = [facts.row_group(i) for i in range(facts.num_row_groups)]
    declared = sum(group.total_byte_size for group in groups)
    numbers = sum(group.column(0).num_values for group in groups)
    if facts.num_rows != rows or numbers != rows * classes:
        raise ValueError(f"scores of {facts.num_rows:,} examples for {rows:,}")
    if any("DICTIONARY" in name for group in groups for name in group.column(0).encodings):
        raise ValueError("its scores are stored in a dictionary")
    if declared > min(4 * rows * classes + SLACK_BYTES, MOST_BYTES):
        raise ValueError(f"its {declared:,} bytes are too large for scores")
