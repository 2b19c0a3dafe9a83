"""Predictions as stored, one row per test example. The sizes that a file declares are checked before it is unpacked."""

from __future__ import annotations

import io
from collections.abc import Collection
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import pandas as pd
    import pyarrow as pa

    from vitbench.core.record import Record

CLUSTER = "cluster"  # column of tasks whose test images belong together
MOST_BYTES = 512 * 2**20  # unpacked: ImageNet's come to 4 MB
MOST_COLUMNS = 64


def predictions_name(key: str, test_set: str = "") -> str:
    """The name of the file of a job's predictions of the task's own test split, or of a further test set."""
    return f"{key}.{test_set}.parquet" if test_set else f"{key}.parquet"


def prediction_files(record: Record) -> dict[str, str]:
    """The SHA-256 of each file of a record's predictions, by the file's name."""
    digests = {"": record.predictions_sha256}
    digests |= {name: facts.predictions_sha256 for name, facts in record.test_sets.items()}
    return {predictions_name(record.key, name): digest for name, digest in digests.items() if digest}


def read_predictions(data: bytes, rows: int | None = None, columns: Collection[str] = ()) -> pd.DataFrame:
    """Return the table of a Parquet file; `rows` is how many it must have, `columns` all that is read of it, if given.

    Raises:
        ValueError: it is not one, has another number of rows, or takes more memory than predictions do.
    """
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        file = pq.ParquetFile(io.BytesIO(data))
        facts = file.metadata
        if rows is not None and facts.num_rows != rows:
            raise ValueError(f"{facts.num_rows:,} predictions for {rows:,} test examples")
        unpacked = sum(facts.row_group(i).total_byte_size for i in range(facts.num_row_groups))
        if (
            max(unpacked, 8 * facts.num_rows * facts.num_columns) > MOST_BYTES
            or facts.num_columns > MOST_COLUMNS
        ):
            raise ValueError(
                f"{facts.num_rows:,} rows of {facts.num_columns} columns are too large for predictions"
            )
        # A repeated text is stored once: check its length before it is repeated in memory.
        is_text = (pa.types.is_string, pa.types.is_large_string)
        texts = [field.name for field in file.schema_arrow if any(kind(field.type) for kind in is_text)]
        present = [name for name in file.schema_arrow.names if name in columns] if columns else None
        table = pq.read_table(io.BytesIO(data), read_dictionary=texts, columns=present)
        fields = [_plain(field, table[field.name]) for field in table.schema]
        found: pd.DataFrame = table.cast(pa.schema(fields, table.schema.metadata)).to_pandas()
    except (pa.ArrowException, OSError, KeyError) as error:
        raise ValueError(f"not readable: {error}") from error
    return found


def _plain(field: pa.Field, values: pa.ChunkedArray) -> pa.Field:
    """Return the unpacked type of a dictionary-encoded column, if it is small enough to unpack."""
    import pyarrow as pa
    import pyarrow.compute as pc

    if pa.types.is_dictionary(field.type):
        field = field.with_type(field.type.value_type)
        if not pa.types.is_primitive(field.type):
            longest = [pc.max(pc.binary_length(chunk.dictionary)).as_py() or 0 for chunk in values.chunks]
            if max(longest, default=0) * len(values) > MOST_BYTES:
                raise ValueError(f"column {field.name[:40]!r} takes more memory than predictions do")
    elif not (pa.types.is_primitive(field.type) or pa.types.is_null(field.type)):
        raise ValueError(f"column {field.name[:40]!r} has a type that predictions never have: {field.type}")
    return field
