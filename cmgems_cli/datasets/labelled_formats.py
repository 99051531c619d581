"""The formats of labelled sequences: a table, FASTA with labels in its headers, a folder per class, Parquet."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any, Protocol

from cmgems_cli.artifacts import canonical_json, sha256_of_bytes, sha256_of_file
from cmgems_cli.datasets.benchmark import FASTA_ENDINGS, PARQUET_ENDING
from cmgems_cli.datasets.dna_check import DnaCheck
from cmgems_cli.datasets.sequence_table import SequenceTable
from cmgems_cli.datasets.text_lines import LONGEST_LINE, lines_of, texts_of
from cmgems_cli.errors import InputError
from cmgems_cli.extras import need
from cmgems_cli.genome.fasta import FastaFile
from cmgems_cli.genome.records import fasta_records

NEEDED = "needed a CSV or TSV file whose first line is sequence,label"

# The columns of sequences in published Parquet files.
_SEQUENCE_COLUMNS = ("sequence", "seq")


class RowSource(Protocol):
    """Labelled sequences of one file or folder, read once in its order."""

    @property
    def sha256(self) -> str:
        """The digest of what was read; complete after the last row."""

    def rows(self) -> Iterator[tuple[bytes, str]]:
        """Yield each sequence as upper-case letters, and its label as written.

        Raises
        ------
        InputError
            If there are no rows, or one is not a sequence of letters; the message names its place. Also if the
            sequences are RNA or protein.
        """

    def wrong(self, words: str) -> InputError:
        """Return the error that says what is wrong with the row last read."""


def open_labelled(path: Path) -> RowSource:
    """Open labelled sequences by the kind and name of a path.

    Raises
    ------
    InputError
        If there is nothing.
    """
    if not path.exists():
        raise InputError(f"{path} does not exist; {NEEDED}")
    if path.is_dir():
        return ClassFolders(path)
    name = path.name.casefold().removesuffix(".gz")
    if name.endswith(FASTA_ENDINGS):
        return LabelledFasta(path)
    return ParquetRows(path) if name.endswith(PARQUET_ENDING) else LabelledTable(path)


def digest_of_rows(path: Path) -> str:
    """Return what `RowSource.sha256` is after the last row, without judging the content."""
    return _digest_of_folder(path) if path.is_dir() else sha256_of_file(path)


class LabelledTable:
    """CSV or TSV, plain or gzip, with the columns sequence and label."""

    def __init__(self, path: Path) -> None:
        self._file = FastaFile(path)
        self._table: SequenceTable | None = None

    @property
    def sha256(self) -> str:
        return self._file.sha256

    def rows(self) -> Iterator[tuple[bytes, str]]:
        """Yield the rows.

        Raises
        ------
        InputError
            As `RowSource.rows`, and as `SequenceTable`.
        """
        path = self._file.path
        with closing(texts_of(self._file)) as texts:
            lines = lines_of(texts, path, NEEDED)
            self._table = table = SequenceTable(lines, path, NEEDED, ("sequence", "label"))
            column = table.column("label")
            assert column is not None
            for sequence, cells in table.rows():
                yield sequence, table.cell(cells, column)

    def wrong(self, words: str) -> InputError:
        assert self._table is not None
        return self._table.wrong(words)


class LabelledFasta:
    """FASTA whose headers end in `|LABEL`, as the Nucleotide Transformer's benchmark is published."""

    def __init__(self, path: Path) -> None:
        self._file, self._place = FastaFile(path), ""

    @property
    def sha256(self) -> str:
        return self._file.sha256

    def rows(self) -> Iterator[tuple[bytes, str]]:
        """Yield the rows.

        Raises
        ------
        InputError
            As `RowSource.rows`, and as `fasta_records`, or if a header has no label.
        """
        number = 0
        for number, record in enumerate(fasta_records(self._file), start=1):
            self._place = f"record {number:,} ({record.name[:60]})"
            _, bar, label = record.name.rpartition("|")
            if not bar:
                raise self.wrong("has no label in its header; needed >NAME|LABEL")
            if len(record.letters) > LONGEST_LINE:
                raise self.wrong(f"has more than {LONGEST_LINE:,} bases; needed labelled sequences")
            yield record.letters, label
        if not number:
            raise InputError(f"{self._file.path} has no records; needed >NAME|LABEL and a sequence")

    def wrong(self, words: str) -> InputError:
        return InputError(f"{self._file.path} {self._place} {words}")


class ClassFolders:
    """A folder of one folder per class, one sequence per file, as Genomic Benchmarks are unpacked."""

    def __init__(self, path: Path) -> None:
        self._path, self._place = path, path
        self.sha256 = ""

    def rows(self) -> Iterator[tuple[bytes, str]]:
        """Yield the rows, class by class, by the names of the files.

        Raises
        ------
        InputError
            As `RowSource.rows`, or if there are no folders of files.
        """
        hashes: dict[str, str] = {}
        dna = DnaCheck(self._path)
        for path in _files_by_class(self._path):
            self._place, content = path, _read_bounded(path)
            hashes[path.relative_to(self._path).as_posix()] = hashlib.sha256(content).hexdigest()
            letters = b"".join(content.split()).upper()
            if not letters.isalpha():  # of bytes: ASCII letters only
                raise self.wrong(
                    "holds no sequence of letters; needed the bases of one sequence and nothing else"
                )
            dna.add(letters)
            yield letters, path.parent.name
        dna.finish()
        if not hashes:
            raise InputError(
                f"{self._path} has no files in folders; needed a folder per class, a file per row"
            )
        self.sha256 = sha256_of_bytes(canonical_json(hashes).encode())

    def wrong(self, words: str) -> InputError:
        return InputError(f"{self._place} {words}")


class ParquetRows:
    """Parquet with the columns `sequence` or `seq`, and `label`, as hubs keep tables; needs pyarrow."""

    def __init__(self, path: Path) -> None:
        self._path, self._row = path, 0
        self.sha256 = ""

    def rows(self) -> Iterator[tuple[bytes, str]]:
        """Yield the rows, holding one batch of them at a time.

        Raises
        ------
        InputError
            As `RowSource.rows`.
        CmgemsError
            Without pyarrow.
        """
        need("pyarrow", "parquet", f"the Parquet file {self._path}", instead="save it as CSV")
        from pyarrow import ArrowException, parquet

        dna, self._row = DnaCheck(self._path), 0
        try:
            with parquet.ParquetFile(self._path) as file:
                names = file.schema_arrow.names
                sequence = next((name for name in _SEQUENCE_COLUMNS if name in names), None)
                if sequence is None or "label" not in names:
                    raise InputError(
                        f"{self._path} has the columns {', '.join(names)[:80]}; needed sequence and label"
                    )
                for batch in file.iter_batches(batch_size=4096, columns=[sequence, "label"]):
                    columns = batch.to_pydict()
                    for text, label in zip(columns[sequence], columns["label"], strict=True):
                        self._row += 1
                        letters = self._letters(text)
                        dna.add(letters)
                        yield letters, "" if label is None else str(label).strip()
        except (ArrowException, OSError) as error:
            said = str(error).splitlines()[0][:200]
            raise InputError(f"{self._path} is not a readable Parquet file ({said}); get it again") from None
        dna.finish()
        if not self._row:
            raise InputError(f"{self._path} has no rows; needed sequences with labels")
        self.sha256 = sha256_of_file(self._path)

    def _letters(self, text: Any) -> bytes:
        if not (isinstance(text, str) and text.isascii() and text.isalpha()):
            raise self.wrong("has no sequence of letters; needed the bases of one sequence and nothing else")
        return text.upper().encode("ascii")

    def wrong(self, words: str) -> InputError:
        return InputError(f"{self._path} row {self._row:,} {words}")


def _files_by_class(folder: Path) -> Iterator[Path]:
    for of_class in sorted(folder.iterdir()):
        if of_class.is_dir() and not of_class.name.startswith("."):
            yield from sorted(path for path in of_class.iterdir() if not path.name.startswith("."))


def _read_bounded(path: Path) -> bytes:
    with path.open("rb") as stream:
        content = stream.read(LONGEST_LINE + 1)
    if len(content) > LONGEST_LINE:
        raise InputError(f"{path} has more than {LONGEST_LINE:,} bytes; needed the bases of one sequence")
    return content


def _digest_of_folder(folder: Path) -> str:
    hashes = {path.relative_to(folder).as_posix(): sha256_of_file(path) for path in _files_by_class(folder)}
    return sha256_of_bytes(canonical_json(hashes).encode())
