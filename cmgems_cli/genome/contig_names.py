"""What the name of a FASTA record says: which human chromosome it is, or that the genome is not human."""

from __future__ import annotations

import re
from pathlib import Path

from cmgems_cli.errors import InputError

# method, section 2: the 24 primary chromosomes.
PRIMARY = (*(str(number) for number in range(1, 23)), "X", "Y")

# Longer than any header in use; a file without line ends must not fill memory.
MAX_HEADER_BYTES = 1 << 20
# ours: far below the longest cell that Python's csv module reads (131,072).
MAX_NAME_BYTES = 1 << 14

# UCSC `chr1` and Ensembl `1`.
_UCSC_OR_ENSEMBL = re.compile(r"(?:chr)?([1-9]|1[0-9]|2[0-2]|X|Y)", re.IGNORECASE)
_ACCESSION = re.compile(r"([A-Z]{2}_?)(\d{6,9})(?:\.\d+)?")


def _accessions() -> dict[str, str]:
    """Return the accessions of the primary chromosomes, in whatever version, with their canonical names."""
    names: dict[str, str] = {}
    for number, name in enumerate(PRIMARY):
        names[f"NC_{1 + number:06}"] = name  # RefSeq, any assembly of the Genome Reference Consortium
        names[f"NC_{60925 + number:06}"] = name  # RefSeq, T2T-CHM13
        names[f"CM{663 + number:06}"] = name  # GenBank, any assembly of the Consortium
        names[f"CP{68277 - number:06}" if name != "Y" else "CP086569"] = name  # GenBank, T2T-CHM13
    return names


_PRIMARY_ACCESSIONS = _accessions()
# Mitochondria of human assemblies, and the Epstein-Barr virus that some of them come with.
_OTHER_HUMAN_ACCESSIONS = {"NC_012920", "NC_001807", "NC_007605", "CP068254"}
# Kinds of accession that whole chromosomes have: RefSeq, GenBank, ENA.
_CHROMOSOME_ACCESSIONS = {"NC_", "AC_", "CM", "CP", "LR", "OU", "OV", "OW", "OX", "OY", "OZ"}

# Chromosomes that no human genome has: numbers from 23, arms (2L) and subgenomes (2A, 1D), Roman numbers, letters,
# linkage groups, organelles of plants, and mitochondria as yeast, worm and fly call them.
_NOT_HUMAN = re.compile(
    r"(?i:chr(?:omosome)?_?|group)?"
    r"(?:2[3-9]|[3-9]\d|1\d\d|\d{1,2}[A-DLRSU]|\d?[LRXY]Het|[XY][LR\d]"
    r"|(?=[IVX])X{0,3}(?:IX|IV|V?I{0,3})|[UWZ]|LG_?\d+|Pt|Pltd|Mito)"
    r"|(?i:chr(?:omosome)?_?)(?:[A-LN-W]|Sy)|(?i:mtdna|(?:mitochondri|chloroplast|plastid).*)"
)


def canonical_name(name: str) -> str:
    """Return 1 … 22, X or Y for the name of a human chromosome, and any other name unchanged.

    Known are the names of UCSC and Ensembl, the accessions of RefSeq and GenBank (assemblies of the Genome Reference
    Consortium and T2T-CHM13, any version), and NCBI's old names, which join several by `|`.

    >>> [canonical_name(name) for name in ("chr1", "NC_000023.11", "gi|568815574|gb|CM000686.2|", "chr1_alt")]
    ['1', 'X', 'Y', 'chr1_alt']
    """
    if match := _UCSC_OR_ENSEMBL.fullmatch(name):
        return match[1].upper()
    for part in name.split("|"):
        if (match := _ACCESSION.fullmatch(part)) and match[1] + match[2] in _PRIMARY_ACCESSIONS:
            return _PRIMARY_ACCESSIONS[match[1] + match[2]]
    return name


def is_not_human(name: str) -> bool:
    """Return whether the name is that of a chromosome that no human genome has.

    >>> [is_not_human(name) for name in ("2L", "chrIV", "25", "chr1_alt", "MT", "scaffold_7")]
    [True, True, True, False, False, False]
    """
    if canonical_name(name) in PRIMARY:
        return False
    for part in name.split("|"):
        if (match := _ACCESSION.fullmatch(part)) and match[1] in _CHROMOSOME_ACCESSIONS:
            return match[1] + match[2] not in _OTHER_HUMAN_ACCESSIONS
    return _NOT_HUMAN.fullmatch(name) is not None


def record_name(header: bytes | bytearray, path: Path, after: str | None) -> str:
    """Return the first word of a FASTA header, which is given without its '>'.

    `path` and `after`, the name of the record before, are used in error messages.

    Raises
    ------
    InputError
        If there is no name, or it is too long for one.
    """
    words = header.split(maxsplit=1)
    if not words:
        where = "the first one" if after is None else f"after {after!r}"
        raise InputError(f"{path} has a record without a name ({where}); every '>' needs one")
    if len(words[0]) > MAX_NAME_BYTES:
        raise InputError(
            f"{path} has a record name of {len(words[0]):,} bytes; needed at most {MAX_NAME_BYTES:,}: shorten it"
        )
    return words[0].decode("utf-8", "replace")


def check_header_length(header: bytes | bytearray, path: Path) -> None:
    """Raise InputError if a header is too long to be one."""
    if len(header) > MAX_HEADER_BYTES:
        raise InputError(f"{path} has a header line of more than {MAX_HEADER_BYTES:,} bytes; not FASTA")
