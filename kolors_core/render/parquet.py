"""The manifest as one Parquet file, for what reads tables."""

from __future__ import annotations

import io
import json
from itertools import islice

import pyarrow
from pyarrow.parquet import ParquetWriter

from .manifest import Line, Manifest

NAME = "manifest.parquet"
ROWS = 1000  # that are written at a time
TEXTS = pyarrow.map_(pyarrow.string(), pyarrow.string())
SCHEMA = pyarrow.schema(
    {
        "row": pyarrow.int64(),
        "number": pyarrow.int64(),
        "seed": pyarrow.uint64(),
        "values": TEXTS,
        "hash": pyarrow.string(),
        "files": pyarrow.list_(pyarrow.string()),
        "sha256": pyarrow.list_(pyarrow.string()),
        "seconds": pyarrow.map_(pyarrow.string(), pyarrow.float64()),
        "attempts": pyarrow.int64(),
        "worker": pyarrow.string(),
        "device": pyarrow.string(),
        "versions": TEXTS,
        "began": pyarrow.float64(),
        "ended": pyarrow.float64(),
        "error": pyarrow.string(),
    }
)


def write_parquet(manifest: Manifest) -> None:
    """Write all lines. Raises StorageFault."""
    file, lines = io.BytesIO(), manifest.lines()
    with ParquetWriter(file, SCHEMA) as writer:
        while rows := [_row(line) for line in islice(lines, ROWS)]:
            writer.write_table(pyarrow.Table.from_pylist(rows, SCHEMA))
    manifest.storage.write(NAME, file.getvalue())


def _row(line: Line) -> dict:
    texts = {name: value if isinstance(value, str) else json.dumps(value) for name, value in line["values"].items()}
    files = {"files": [file["name"] for file in line["files"]], "sha256": [file["sha256"] for file in line["files"]]}
    return {**line, **files, "values": texts}
