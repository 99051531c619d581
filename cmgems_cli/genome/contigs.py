"""Which records of a FASTA file are kept, under which name, and their byte ranges according to an index."""

from __future__ import annotations

import difflib
import hashlib
import re
from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path

from cmgems_cli.errors import InputError, UsageError

# method, section 2: the 24 primary chromosomes.
PRIMARY = (*(str(number) for number in range(1, 23)), "X", "Y")

# UCSC `chr1` and Ensembl `1`; NCBI's RefSeq `NC_000001.11` to `NC_000024.10`, whatever the version.
_UCSC_OR_ENSEMBL = re.compile(r"(?:chr)?([1-9]|1[0-9]|2[0-2]|X|Y)", re.IGNORECASE)
_NCBI = re.compile(r"NC_0000(0[1-9]|1[0-9]|2[0-4])(?:\.\d+)?")

# A row of contigs.csv is stored in 16 bits.
MAX_CONTIGS = 2**16

# Letters of the IUPAC code that stand for more than one base (NC-IUB 1984), except N.
IUPAC = b"RYSWKMBDHV"

# How many names an error message lists.
NAMES_SHOWN = 8


def canonical_name(name: str) -> str:
    """Return 1 … 22, X or Y for the name of a human chromosome, and any other name unchanged.

    >>> [canonical_name(name) for name in ("chr1", "NC_000023.11", "Y", "chr1_KI270706v1_random")]
    ['1', 'X', 'Y', 'chr1_KI270706v1_random']
    """
    if match := _UCSC_OR_ENSEMBL.fullmatch(name):
        return match[1].upper()
    if match := _NCBI.fullmatch(name):
        return PRIMARY[int(match[1]) - 1]
    return name


@dataclass
class Contig:
    """One kept record and the counts of its letters.

    Attributes
    ----------
    name, canonical_name : str
        The name in the FASTA file, and the result of `canonical_name`.
    length_bases : int
        All letters of the record.
    bases : int
        Letters A, C, G and T: those the corpus holds.
    dropped_n, dropped_iupac, dropped_other : int
        Letters left out: N, IUPAC letters for two or three bases, and all others.
    runs : int
        Number of runs: maximal sequences of A, C, G, T.
    """

    name: str
    canonical_name: str
    length_bases: int = 0
    bases: int = 0
    dropped_n: int = 0
    dropped_iupac: int = 0
    dropped_other: int = 0
    runs: int = 0

    @property
    def identity(self) -> int:
        """64 bits that identify the contig in random draws, whichever file it comes from."""
        return int.from_bytes(hashlib.sha256(self.canonical_name.encode()).digest()[:8])


class ContigSelection:
    """Decides for each record whether it is kept, and remembers every name seen.

    Parameters
    ----------
    contigs : str
        `primary`, `all`, or names separated by commas. A name also matches the same chromosome under
        another naming scheme (`chr20` matches `NC_000020.11`).

    Raises
    ------
    UsageError
        If `contigs` is empty, or combines `primary` or `all` with other names.
    """

    def __init__(self, contigs: str) -> None:
        names = list(dict.fromkeys(name.strip() for name in contigs.split(",") if name.strip()))
        if not names:
            raise UsageError("`contigs` is empty; give primary, all, or names separated by commas")
        if len(names) > 1 and {"primary", "all"} & set(names):
            raise UsageError(
                f"`contigs` is {contigs}: primary and all cannot be combined; give one of them, or names"
            )
        self.text = ",".join(names)
        self.everything = names == ["all"]
        self._named = [] if names in (["all"], ["primary"]) else names
        self._canonical = set(PRIMARY) if names == ["primary"] else {canonical_name(name) for name in names}
        self._seen: dict[str, None] = {}
        self.kept: list[Contig] = []

    @property
    def names(self) -> Collection[str]:
        """Names of all records seen so far, kept or not."""
        return self._seen.keys()

    def wants(self, name: str) -> bool:
        """Return whether a record of this name is kept."""
        return self.everything or canonical_name(name) in self._canonical

    def add(self, name: str, path: Path) -> Contig | None:
        """Register the next record of the input; return its contig if it is kept.

        Raises
        ------
        InputError
            If the name was seen before, a selected chromosome was seen under another name, or there are
            more contigs than a corpus can number.
        """
        if name in self._seen:
            raise InputError(
                f"{path} has a second record named {name!r}; names must differ across all FASTA files"
            )
        self._seen[name] = None
        if not self.wants(name):
            return None
        contig = Contig(name, canonical_name(name))
        if not self.everything:
            for other in self.kept:
                if other.canonical_name == contig.canonical_name:
                    raise InputError(
                        f"{path}: records {other.name!r} and {name!r} are both chromosome"
                        f" {contig.canonical_name}; give one assembly, or `contigs=all` to keep both"
                    )
        if len(self.kept) == MAX_CONTIGS:
            raise InputError(
                f"{path} has more than {MAX_CONTIGS:,} records to keep; choose fewer with `contigs=NAME,…`"
            )
        self.kept.append(contig)
        return contig

    def check_complete(self) -> None:
        """Check that the input held every requested record, and at least one.

        Raises
        ------
        InputError
            If a record is missing; the message lists the closest names, or the names seen.
        """
        kept_names = {contig.canonical_name for contig in self.kept}
        for name in self._named:
            if canonical_name(name) not in kept_names:
                similar = difflib.get_close_matches(name, self._seen, n=3, cutoff=0.5)
                hint = (
                    f"the closest: {', '.join(similar)}" if similar else f"there are: {self._names_shown()}"
                )
                raise InputError(f"no record named {name!r} in the FASTA input; {hint}")
        if not self.kept:
            raise InputError(
                f"none of the {len(self._seen):,} records is a primary chromosome (1–22, X, Y);"
                f" there are: {self._names_shown()}; use `contigs=all` or `contigs=NAME,…`"
            )

    def _names_shown(self) -> str:
        names = list(self.names)
        more = f" and {len(names) - NAMES_SHOWN:,} more" if len(names) > NAMES_SHOWN else ""
        return ", ".join(names[:NAMES_SHOWN]) + more


@dataclass(frozen=True)
class IndexedRecord:
    """Byte range of a record in a plain FASTA file: begin … end - 1, header included."""

    name: str
    length_bases: int
    begin: int
    end: int


def indexed_records(fasta: Path) -> list[IndexedRecord] | None:
    """Read the `.fai` index of a plain FASTA file through pyfaidx.

    Returns
    -------
    list of IndexedRecord, or None
        None unless there is an index, not older than the file, that accounts for every byte of the
        file, with a header of the right name before every record. An unusable index is not an error,
        since the scan works without one. Nothing is ever written next to the user's file.
    """
    index = fasta.with_name(fasta.name + ".fai")
    if not index.is_file() or index.stat().st_mtime < fasta.stat().st_mtime:
        return None
    with fasta.open("rb") as stream:
        # For a bgzip file pyfaidx would write a .gzi index.
        if stream.read(1) != b">":
            return None
        from pyfaidx import Faidx

        try:
            with Faidx(str(fasta), rebuild=False, build_index=False) as faidx:
                entries = sorted(faidx.index.items(), key=lambda entry: entry[1].offset)
        except (OSError, ValueError, ImportError):
            return None
        records = []
        begin = 0
        for name, entry in entries:
            stream.seek(begin)
            header = stream.read(max(0, entry.offset - begin))
            if not _is_header_of(header, name):
                return None
            records.append(IndexedRecord(name, entry.rlen, begin, entry.bend))
            begin = entry.bend
        size = stream.seek(0, 2)
    # `bend` counts a line end of up to two bytes that the file's last line may lack.
    return records if records and size <= begin <= size + 2 else None


def _is_header_of(header: bytes, name: str) -> bool:
    one_line = header.count(b"\n") == 1 and header.endswith(b"\n")
    return header.startswith(b">") and one_line and header[1:].split()[:1] == [name.encode()]
