"""Which records of a FASTA file are kept, under which name, and their byte ranges according to an index."""

from __future__ import annotations

import difflib
import hashlib
from collections.abc import Collection
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path

from cmgems_cli.errors import InputError, UsageError
from cmgems_cli.genome.contig_names import MAX_HEADER_BYTES, PRIMARY, canonical_name, is_not_human
from cmgems_cli.readable import meant, none_of

# ours: a contig and its name take about 500 bytes of memory. Genomes of more pieces are rare drafts.
MAX_CONTIGS = 2**20
MAX_NAMES_BYTES = 2**27

# Letters of the IUPAC code that stand for more than one base (NC-IUB 1984), except N.
IUPAC = b"RYSWKMBDHV"

# How many names an error message lists.
NAMES_SHOWN = 8
# How many are compared with one that was not found.
NAMES_COMPARED = 10_000


# What stands for several contigs in place of names.
WORDS = ("primary", "all")


@dataclass(slots=True)
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


def _in_lower_case(name: str, words: Collection[str]) -> str:
    return name.casefold() if name.casefold() in words else name


class ContigSelection:
    """Decides for each record whether it is kept, and remembers every name seen.

    Parameters
    ----------
    contigs : str
        `primary`, `all` (in any case of letters), or names separated by commas. A name also matches the same
        chromosome under another naming scheme (`chr20` matches `NC_000020.11`).
    not_human : collection of str, optional
        Prefixes of the genomes known not to be human, "" for input without prefixes: of them `primary` keeps every
        record.

    Attributes
    ----------
    kept : list of Contig
    not_human : set of str
        As given, and those found by a name that no human chromosome has. With `primary` only.
    passed_over : int
        Records that were not kept.
    missed : bool
        Whether a record of a genome that is not human was passed over before that was known: select again, with the
        `not_human` found.

    Raises
    ------
    UsageError
        If `contigs` is empty, or combines `primary` or `all` with other names.
    """

    def __init__(self, contigs: str, not_human: Collection[str] = ()) -> None:
        given = (name.strip() for name in contigs.split(","))
        names = list(dict.fromkeys(_in_lower_case(name, WORDS) for name in given if name))
        if not names:
            raise UsageError("`contigs` is empty; give primary, all, or names separated by commas")
        if len(names) > 1 and set(WORDS) & set(names):
            raise UsageError(
                f"`contigs` is {contigs}: primary and all cannot be combined; give one of them, or names"
            )
        self.text = ",".join(names)
        self.everything = names == ["all"]
        self.primary = names == ["primary"]
        self._named = [] if self.everything or self.primary else names
        self._canonical = set(PRIMARY) if self.primary else {canonical_name(name) for name in names}
        self._prefix = ""
        self._seen: dict[str, None] = {}
        self._name_bytes = 0
        self._kept_as: dict[str, str] = {}  # canonical name -> name, where they must differ
        self._found: set[str] = set()  # names asked for
        self._passed_over_of: set[str] = set()
        self.kept: list[Contig] = []
        self.not_human = set(not_human)

    @property
    def names(self) -> Collection[str]:
        """Names of all records seen so far, kept or not, with their prefixes."""
        return self._seen.keys()

    @property
    def last_name(self) -> str | None:
        """Name of the last record seen."""
        return next(reversed(self._seen), None)

    @property
    def passed_over(self) -> int:
        return len(self._seen) - len(self.kept)

    @property
    def missed(self) -> bool:
        return bool(self.not_human & self._passed_over_of)

    def begin_genome(self, prefix: str) -> None:
        """Give the following records names `PREFIX.NAME`; without a prefix, if it is empty, their own."""
        self._prefix = prefix

    def wants(self, name: str) -> bool:
        """Return whether a record of this name, without its prefix, is kept."""
        if self.everything or (self.primary and self._prefix in self.not_human):
            return True
        return not self._canonical.isdisjoint(self._names_of(name))

    def _names_of(self, name: str) -> set[str]:
        """Return the names that ask for a record."""
        canonical = canonical_name(name)
        return {canonical, self._full(name), self._full(canonical)}

    def add(self, name: str, path: Path) -> Contig | None:
        """Register the next record of the input; return its contig if it is kept.

        Raises
        ------
        InputError
            If the name was seen before, a selected chromosome was seen under another name, or there are
            more records than a corpus may have.
        """
        full = self._full(name)
        self._name_bytes += len(full)
        if full in self._seen:
            raise InputError(
                f"{path} has a second record named {full!r}; names must differ across all FASTA files:"
                " several genomes need `prefix=NAME,…`, one for each file"
            )
        if len(self._seen) == MAX_CONTIGS or self._name_bytes > MAX_NAMES_BYTES:
            raise InputError(
                f"{path}: more than {MAX_CONTIGS:,} records, or {MAX_NAMES_BYTES:,} letters of names, over all files;"
                " leave out the shortest records, or shorten the names"
            )
        self._seen[full] = None
        if self.primary and is_not_human(name):
            self.not_human.add(self._prefix)
        if not self.wants(name):
            self._passed_over_of.add(self._prefix)
            return None
        contig = Contig(full, self._full(canonical_name(name)))
        if self._named:
            self._found |= self._canonical & self._names_of(name)
        if not self.everything and self._prefix not in self.not_human:
            other = self._kept_as.setdefault(contig.canonical_name, full)
            if other != full:
                raise InputError(
                    f"{path}: records {other!r} and {full!r} are both chromosome {contig.canonical_name}; give one"
                    " assembly, `contigs=all` to keep both, or `prefix=NAME,…`, one for each file"
                )
        self.kept.append(contig)
        return contig

    def _full(self, name: str) -> str:
        return f"{self._prefix}.{name}" if self._prefix else name

    def check_complete(self) -> None:
        """Check that the input held every requested record, and at least one.

        Raises
        ------
        InputError
            If a record is missing; the message lists the closest names, or the names seen.
        """
        for name in self._named:
            if canonical_name(name) not in self._found:
                similar = difflib.get_close_matches(name, islice(self._seen, NAMES_COMPARED), n=3, cutoff=0.5)
                hint = (
                    f"the closest: {', '.join(similar)}"
                    if similar
                    else f"there are: {self._names_shown()}{meant(name, WORDS)}"
                )
                raise InputError(f"no record named {name!r} in the FASTA input; {hint}")
        if not self.kept:
            raise InputError(
                f"{none_of(len(self._seen), 'record')} is a primary chromosome (1–22, X, Y);"
                f" there are: {self._names_shown()}; use `contigs=all` or `contigs=NAME,…`"
            )

    def _names_shown(self) -> str:
        names = list(self.names)
        more = f" and {len(names) - NAMES_SHOWN:,} more" if len(names) > NAMES_SHOWN else ""
        return ", ".join(names[:NAMES_SHOWN]) + more


@dataclass(frozen=True)
class IndexedRecord:
    """Byte range of a record in a plain FASTA file: begin … end - 1, header included.

    `header_letters` is the number of bytes of its header that are not blanks.
    """

    name: str
    length_bases: int
    begin: int
    end: int
    header_letters: int = field(default=0, compare=False)


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
        except (OSError, ValueError, ImportError, LookupError, TypeError, OverflowError):
            return None
        size = stream.seek(0, 2)
        records = []
        begin = 0
        for name, entry in entries:
            if (
                not 0 <= entry.offset - begin <= MAX_HEADER_BYTES
                or not entry.offset <= entry.bend <= size + 2
            ):
                return None
            stream.seek(begin)
            header = stream.read(entry.offset - begin)
            if not is_header_of(header, name):
                return None
            letters = len(b"".join(header.split()))
            records.append(IndexedRecord(name, entry.rlen, begin, entry.bend, letters))
            begin = entry.bend
    # `bend` counts a line end of up to two bytes that the file's last line may lack.
    return records if records and size <= begin <= size + 2 else None


def is_header_of(header: bytes, name: str) -> bool:
    """Return whether bytes are one header line, of this record."""
    one_line = header.count(b"\n") == 1 and header.endswith(b"\n")
    return header.startswith(b">") and one_line and header[1:].split()[:1] == [name.encode()]
