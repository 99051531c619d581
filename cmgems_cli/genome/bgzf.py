"""Write bgzip's format: gzip members that name their own size, so that tabix and bcftools can jump to each."""

from __future__ import annotations

import struct
import zlib
from typing import IO

# SAM specification 4.1: a member of at most 64 kB before and after compression; what bgzip puts into one.
_MEMBER_BYTES = 0xFF00

# SAM specification 4.1: gzip with an extra field of 6 bytes, which are BC, 2 bytes follow, the member's size minus 1.
_HEADER = struct.Struct("<4BI2BH2B2H")

# What a member has besides its compressed data: its header, CRC-32 and length.
_OVERHEAD = _HEADER.size + 8


def bgzf_member(content: bytes) -> bytes:
    """Return one gzip member of at most `_MEMBER_BYTES` bytes of content; an empty one ends a file."""
    for level in (zlib.Z_DEFAULT_COMPRESSION, zlib.Z_NO_COMPRESSION):
        deflate = zlib.compressobj(level, wbits=-zlib.MAX_WBITS)
        packed = deflate.compress(content) + deflate.flush()
        # What does not compress grows a little, and might no longer fit.
        if len(packed) + _OVERHEAD <= 1 << 16:
            break
    header = _HEADER.pack(31, 139, 8, 4, 0, 0, 255, 6, 66, 67, 2, len(packed) + _OVERHEAD - 1)
    return header + packed + struct.pack("<2I", zlib.crc32(content), len(content))


class BgzfWriter:
    """Compresses what is written to a stream.

    Every call of `write` ends a member, so that a run may stop and resume between any two of them. `finish` writes the
    empty member that ends the file.

    Parameters
    ----------
    stream : binary file
    """

    def __init__(self, stream: IO[bytes]) -> None:
        self._stream = stream

    def write(self, content: bytes) -> None:
        """Write bytes as one or more members."""
        for start in range(0, len(content), _MEMBER_BYTES):
            self._stream.write(bgzf_member(content[start : start + _MEMBER_BYTES]))

    def finish(self) -> None:
        """Write the end of the file; the stream stays open."""
        self._stream.write(bgzf_member(b""))
