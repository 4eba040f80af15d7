"""The table of prompts: CSV, TSV, JSON Lines or Parquet, row by row."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Iterator
from typing import Any

from ..errors import KolorsError

Row = dict[str, Any]
READERS = {".csv": ",", ".tsv": "\t", ".jsonl": "", ".ndjson": "", ".parquet": ""}
PARQUET_ROWS = 1000  # that are read at a time


class Table:
    """What is in a file, which is read again for every pass: its rows are never all in memory.

    name: for messages. suffix: one of READERS.
    """

    def __init__(self, name: str, content: bytes):
        self.name, self.content = name, content
        self.suffix = "." + name.rpartition(".")[2].lower()
        if self.suffix not in READERS:
            raise KolorsError(f"{name} is no table. Expected one of {', '.join(READERS)}.")

    def columns(self) -> list[str]:
        """Of the header, or of all rows where each has its own. Raises KolorsError where there is no row."""
        if self.suffix in (".csv", ".tsv"):
            header = self._header(self._csv())
            if next(self.rows(), None) is None:
                self._fail("has a header and no rows")
            return header
        if self.suffix == ".parquet":
            return self._parquet().schema_arrow.names
        names = dict.fromkeys(name for row in self.rows() for name in row)
        return list(names) or self._fail("has no rows")

    def rows(self) -> Iterator[Row]:
        """Each row, as its cells by column: text, or what JSON and Parquet hold. A cell that is not there is left out.

        Raises KolorsError that names the row, from 1.
        """
        read = {".csv": self._csv_rows, ".tsv": self._csv_rows, ".parquet": self._parquet_rows}
        yield from read.get(self.suffix, self._json_rows)()

    def _fail(self, what: str) -> Any:
        raise KolorsError(f"{self.name} {what}.")

    # ---- CSV: an empty cell is one that is not there

    def _csv(self) -> Iterator[list[str]]:
        text = io.TextIOWrapper(io.BytesIO(self.content), encoding="utf-8-sig", newline="")
        csv.field_size_limit(1 << 24)
        try:
            yield from csv.reader(text, delimiter=READERS[self.suffix], strict=True)
        except UnicodeDecodeError:
            self._fail("is not in UTF-8. Save it as 'CSV UTF-8'")
        except csv.Error as error:
            self._fail(f"is no CSV that can be read: {error}")

    def _header(self, lines: Iterator[list[str]]) -> list[str]:
        header = [name.strip() for name in next(lines, [])]
        if not any(header):
            self._fail("is empty. Expected a header with the columns")
        twice = {name for name in header if header.count(name) > 1}
        if twice or "" in header:
            self._fail(f"has {'a column without a name' if '' in header else f'the column {min(twice)!r} twice'}")
        return header

    def _csv_rows(self) -> Iterator[Row]:
        lines = self._csv()
        header = self._header(lines)
        number = 0
        for line in lines:
            if not line:
                continue
            number += 1
            if len(line) > len(header):
                self._fail(
                    f"has {len(line)} cells in row {number} and {len(header)} columns. Put quotes around a text "
                    "with a comma in it"
                )
            yield {name: cell for name, cell in zip(header, line) if cell != ""}

    # ---- JSON Lines: null is a cell that is not there

    def _json_rows(self) -> Iterator[Row]:
        number = 0
        for line in io.BytesIO(self.content):
            if not line.strip():
                continue
            number += 1
            try:
                row = json.loads(line.decode("utf-8-sig"))
            except (ValueError, RecursionError) as error:
                self._fail(f"has no JSON in row {number}: {error}")
            if not isinstance(row, dict):
                self._fail(f'has {type(row).__name__} in row {number}. Expected an object, {{"prompt": ...}}')
            yield {name: cell for name, cell in row.items() if cell is not None}

    # ---- Parquet

    def _parquet(self) -> Any:
        try:
            from pyarrow import ArrowException
            from pyarrow.parquet import ParquetFile
        except ImportError:
            raise KolorsError(f"{self.name}: for Parquet pyarrow is needed. Run: pip install pyarrow") from None
        try:
            return ParquetFile(io.BytesIO(self.content))
        except (ArrowException, OSError) as error:
            return self._fail(f"is no Parquet file that can be read: {error}")

    def _parquet_rows(self) -> Iterator[Row]:
        file = self._parquet()
        if not file.metadata.num_rows:
            self._fail("has no rows")
        for batch in file.iter_batches(PARQUET_ROWS):
            for row in batch.to_pylist():
                yield {name: cell for name, cell in row.items() if cell is not None}
