"""Kinds of files that are not FASTA, recognised by their first bytes."""

from __future__ import annotations

import re

_DECOMPRESS = "decompress it first"
_UNPACK = "unpack it first and give the FASTA files in it"
_OTHER = "give the FASTA file it was made from"

# Magic numbers, longest first where one begins like another; kind; what to do.
_KINDS: tuple[tuple[tuple[bytes, ...], str, str], ...] = (
    ((b"\x1f\x8b",), "gzip inside gzip", "decompress it once: gunzip"),
    ((b"BZh",), "a bzip2 file", _DECOMPRESS),
    ((b"\xfd7zXZ",), "an xz file", _DECOMPRESS),
    ((b"]\0\0",), "an lzma file", _DECOMPRESS),
    (
        (b"\x28\xb5\x2f\xfd", *(bytes([0x50 + i]) + b"\x2a\x4d\x18" for i in range(16))),
        "a zstd file",
        _DECOMPRESS,
    ),
    ((b"\x04\x22\x4d\x18", b"\x02\x21\x4c\x18"), "an lz4 file", _DECOMPRESS),
    ((b"LZIP\x01",), "an lzip file", _DECOMPRESS),
    ((b"\x89LZO",), "an lzop file", _DECOMPRESS),
    ((b"\x1f\x9d", b"\x1f\xa0"), "a file of compress (.Z)", _DECOMPRESS),
    ((b"\xff\x06\0\0sNaPpY",), "a snappy file", _DECOMPRESS),
    ((b"PK\x03\x04", b"PK\x05\x06", b"PK\x07\x08"), "a zip file", _UNPACK),
    ((b"7z\xbc\xaf\x27\x1c",), "a 7z archive", _UNPACK),
    ((b"Rar!\x1a\x07",), "a rar archive", _UNPACK),
    ((b"!<arch>\n",), "an ar archive", _UNPACK),
    ((b"\x43\x27\x41\x1a", b"\x1a\x41\x27\x43"), "a 2bit file", "convert it with twoBitToFa first"),
    ((b"BAM\x01",), "a BAM file", "convert it with samtools fasta"),
    ((b"CRAM\x01", b"CRAM\x02", b"CRAM\x03", b"CRAM\x04"), "a CRAM file", "convert it with samtools fasta"),
    ((b"BCF\x02", b"BCF\x04"), "a BCF file", "give the genome"),
    ((b"BAI\x01", b"CSI\x01", b"TBI\x01"), "an index", "give the file it belongs to"),
    ((b"NCBI.sra",), "an SRA file", "convert it with fasterq-dump, then to FASTA"),
    ((b"\x89HDF\r\n",), "an HDF5 file", _OTHER),
    ((b"\x93NUMPY",), "a NumPy file", _OTHER),
    ((b"SQLite format 3",), "an SQLite database", _OTHER),
    ((b"PAR1\x15", b"ARROW1\0"), "a Parquet or Arrow file", _OTHER),
    (
        (b"\x26\xfc\x8f\x88", b"\x88\x8f\xfc\x26", b"\xeb\xf2\x89\x87", b"\x87\x89\xf2\xeb"),
        "bigWig or bigBed",
        _OTHER,
    ),
    ((b"%PDF",), "a PDF", _OTHER),
    ((b"{\\rtf",), "a document of a word processor", "save it as plain text"),
    ((b"\xd0\xcf\x11\xe0",), "a document of an office program", "save it as plain text"),
    ((b"\xff\xfe\0\0", b"\0\0\xfe\xff"), "UTF-32 text, which reads as a binary file", "save it as UTF-8"),
    (
        (b"\xff\xfe", b"\xfe\xff", b">\0", b"\0>"),
        "UTF-16 text, which here is a binary file",
        "save it as UTF-8 without blanks before the mark",
    ),
    ((b"\xef\xbb\xbf",), "text after more than one byte-order mark", "save it without them"),
    ((b"version https://git-lfs",), "a pointer of git-lfs in place of the file", "run git lfs pull"),
    ((b"@HD\t", b"@SQ\t", b"@RG\t", b"@PG\t"), "SAM", "convert it with samtools fasta"),
    ((b"@",), "FASTQ or SAM", "convert it to FASTA"),
    ((b"LOCUS  ",), "a GenBank file", "fetch it as FASTA"),
    ((b"ID   ",), "an EMBL file", "fetch it as FASTA"),
    ((b"##fileformat=VCF",), "VCF", "give the genome"),
    ((b"##gff-version", b"##gtf"), "GFF or GTF", "give the genome"),
    ((b"#NEXUS",), "NEXUS", "convert it to FASTA"),
    ((b"CLUSTAL",), "a Clustal alignment", "convert it to FASTA"),
    ((b"##maf",), "a MAF alignment", "convert it to FASTA"),
)
_WEB_PAGE = re.compile(rb"<(?:!doctype|html|head|\?xml)", re.IGNORECASE)


def other_kind(head: bytes) -> tuple[str, str] | None:
    """Return what a file that begins with `head` is, and what to do about it; None for text of no known kind."""
    if _is_tar(head):
        return "a tar archive", f"{_UNPACK} (tar -xf)"
    for magics, kind, remedy in _KINDS:
        if head.startswith(magics):
            return kind, remedy
    if _WEB_PAGE.match(head):
        return "a web page, such as a server's error message", "fetch the file again"
    return None


def _is_tar(head: bytes) -> bool:
    import tarfile

    try:
        tarfile.TarInfo.frombuf(head[: tarfile.BLOCKSIZE], "utf-8", "surrogateescape")
    except tarfile.HeaderError:
        return False
    return True
