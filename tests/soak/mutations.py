"""Seeded mutations: of bytes, of the cells of a table, of JSON values, of arrays; and the hashes made to fit again."""

import contextlib
import copy
import gzip
import hashlib
import json
import random
import struct
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

from cmgems_cli.artifacts import MANIFEST, canonical_json, digest_of

MAGIC = [
    *(b"\0 \xff \xfe\xff \xef\xbb\xbf \x1f\x8b \x1a \x0b \x0c \x85 \x1b[2J \r \r\n \n \n\n \t".split(b" ")),
    *b', ; | " \' "" \\ # > >> @ nan NaN inf -inf -1 0 1e999 1e308 1e-400 9223372036854775808 0x10 1_000'.split(),
    *b'None null true [] {} [[[[[[[[ {"a": [ }] ../x /etc/passwd %s {0} ${HOME} =1+1 @SUM(A1)'.split(),
    *b"<script> N U u * - . >chr1".split(),
    "é日本\u2028\u202e\u0661".encode(),
    b"9" * 40,
    b"9" * 5000,
    b"[" * 3000,
    b"A" * 5000,
    b",".join([b"x"] * 2000),
    b"\n" * 500,
    b"\xed\xa0\x80",
]
CELLS = [
    *["", "nan", "NA", "None", "inf", "-inf", "-1", "0", "1", "1.5", "1e5", "1e400", "-0", "+1", "0x1f", "1_0", "٣"],
    *["true", "False", "label", "sequence", "ACGU", "acgt", "MKVLA"],
    " ", " 7 ", "ACGT ACGT", "9" * 30, "9" * 5000, "A" * 3000, "N" * 50, "x" * 200_000, '"', '""', '"a', 'a"b', "a,b",
    "a\tb", "a\nb", "\x00", "\x1b[31m", "=1+1", "../..", "é", "\ud800",
]  # fmt: skip
VALUES: list[Any] = [
    None, True, False, 0, 1, -1, 2, 3, 7, 64, 255, 65536, 2**31, 2**32, 2**63 - 1, 2**63, 10**18, 10**30, 10**400,
    0.5, 1e-12, 1e308, -1e308, float("nan"), float("inf"), "", " ", "x", "1", "corpus", "model", "é\x1b[1m",
    "../../x", "/etc/passwd", "a" * 5000, [], {}, [1], [None], [[]], {"": 0}, {"x": {"y": []}}, ["a", 1, None],
]  # fmt: skip


def mutate(rng: random.Random, content: bytes, others: tuple[bytes, ...] = ()) -> bytes:
    """Return other bytes: one to four times flipped, cut, repeated, moved, spliced, or with something inserted."""
    text = bytearray(content)
    for _ in range(rng.choice((1, 1, 1, 2, 3, 4))):
        start, length = rng.randrange(len(text) + 1), min(rng.choice((1, 1, 2, 4, 8, 30, 200)), len(text))
        end = min(len(text), start + length)
        way = rng.randrange(10)
        if way == 0 and text:
            text[start - 1] ^= 1 << rng.randrange(8)
        elif way == 1 and text:
            text[start - 1] = rng.choice((0, 9, 10, 13, 32, 34, 44, 62, 127, 255, rng.randrange(256)))
        elif way == 2:
            del text[start:end]
        elif way == 3:
            text[start:start] = text[start:end] * rng.choice((1, 2, 10, 100))
        elif way == 4:
            text[start:start] = rng.choice(MAGIC)
        elif way == 5:
            text[start:end] = rng.choice(MAGIC)
        elif way == 6:
            del text[start if rng.random() < 0.7 else 0 :]
        elif way == 7:
            other = rng.choice(others) if others else content
            at = rng.randrange(len(other) + 1)
            text[start:] = other[at:]
        elif way == 8:
            lines = bytes(text).split(b"\n")
            one, two = rng.randrange(len(lines)), rng.randrange(len(lines))
            lines[one], lines[two] = lines[two], lines[rng.choice((one, two))]
            text = bytearray(b"\n".join(lines))
        else:
            text[start:end] = rng.randbytes(end - start)
    return bytes(text)


def mutate_table(rng: random.Random, content: bytes) -> bytes:
    """Return a table with odd cells, rows that are too short or too long, or other separators."""
    text = content.decode("utf-8", "surrogateescape")
    mark = "\t" if "\t" in text else ","
    rows = [line.split(mark) for line in text.split("\n")]
    for _ in range(rng.choice((1, 1, 2, 5))):
        row = rng.choice(rows[: rng.choice((1, len(rows)))])
        way, at = rng.randrange(7), rng.randrange(len(row))
        if way < 3:
            row[at] = rng.choice(CELLS)
        elif way == 3:
            row.insert(at, rng.choice(CELLS))
        elif way == 4 and len(row) > 1:
            del row[at]
        elif way == 5:
            rows.insert(rng.randrange(len(rows)), list(rng.choice(rows)))
        else:
            value = rng.choice(CELLS)
            for other in rows[rng.choice((0, 1)) :]:
                other[min(at, len(other) - 1)] = value
    marks = rng.choice((mark, mark, mark, ",", "\t", ";", " "))
    text = rng.choice(("\n", "\n", "\n", "\r\n", "\r")).join(marks.join(row) for row in rows)
    return text.encode("utf-8", "surrogatepass")


def mutate_json(rng: random.Random, value: Any) -> Any:
    """Return a JSON value in which one to three values are odd, missing, of another key or repeated."""
    value = json.loads(json.dumps(value))
    for _ in range(rng.choice((1, 1, 2, 3))):
        places = list(_places(value))
        if not places:
            return rng.choice(VALUES)
        inside, key = rng.choice(places)
        way = rng.randrange(8)
        if way == 0:
            del inside[key]
        elif way == 1 and isinstance(inside, dict):
            inside[rng.choice((str(key) + "x", "", "../x", "a" * 300))] = inside.pop(key)
        elif way == 2:
            inside[key] = [inside[key]]
        elif way == 3 and isinstance(inside[key], int | float) and not isinstance(inside[key], bool):
            inside[key] = rng.choice(
                (inside[key] + 1, inside[key] - 1, -inside[key], inside[key] * 10**6, str(inside[key]))
            )
        elif way == 4:
            inside[key] = _nested(rng.choice((50, 150, 250)))
        else:
            inside[key] = copy.deepcopy(rng.choice(VALUES))
    return value


def _nested(depth: int) -> Any:
    value: Any = []
    for _ in range(depth):
        value = [value]
    return value


def _places(value: Any) -> Any:
    keys = value if isinstance(value, dict) else range(len(value)) if isinstance(value, list) else ()
    for key in keys:
        yield value, key
        yield from _places(value[key])


def mutate_array(rng: random.Random, content: bytes) -> bytes:
    """Return a .npy file with another header, or other numbers."""
    if rng.random() < 0.4:
        return mutate(rng, content)
    length = struct.unpack("<H", content[8:10])[0]
    header, data = content[10 : 10 + length].decode("latin-1"), bytearray(content[10 + length :])
    way = rng.randrange(4)
    if way == 0 and data:
        for _ in range(rng.choice((1, 3, 50))):
            at = rng.randrange(len(data))
            data[at : at + 8] = rng.choice((b"\xff" * 8, b"\0" * 8, rng.randbytes(8)))[: len(data) - at]
    elif way == 1:
        shape = rng.choice(
            (
                "()",
                "(0,)",
                "(1,)",
                "(-1,)",
                "(10**18,)",
                f"({10**18},)",
                f"({2**63},)",
                "(2, 3)",
                "'x'",
                "(1.5,)",
            )
        )
        header = header[: header.index("'shape'")] + f"'shape': {shape}, }}"
    elif way == 2:
        kind = rng.choice(("|O", "<f8", "|u1", "<i2", ">i8", "|S0", "<U9", "|V0", "xx", "<M8[s]"))
        order, shape = rng.choice(("False", "True", "0")), header[header.index("'shape'") :]
        header = f"{{'descr': '{kind}', 'fortran_order': {order}, {shape}"
    else:
        header = mutate(rng, header.encode("latin-1")).decode("latin-1")
    raw = header.encode("latin-1")[:60000]
    raw += b" " * (-(len(raw) + 11) % 64) + b"\n"
    return content[:8] + struct.pack("<H", len(raw)) + raw + bytes(data)


def zipped(rng: random.Random, content: bytes) -> bytes:
    """Return content plain or as gzip or bgzip; the zipped ones sometimes damaged, or followed by something."""
    way = rng.randrange(6)
    if way < 3:
        return content
    whole = gzip.compress(content, 1, mtime=0) if way == 3 else bgzip(content)
    if rng.random() < 0.5:
        return mutate(rng, whole, (whole,))
    return whole + rng.choice((b"", b"", whole, b"\0" * 20, b"junk"))


def bgzip(content: bytes, block: int = 400) -> bytes:
    """Return content in bgzip blocks, with the empty one at the end (SAM specification 4.1)."""
    made = b""
    for at in range(0, len(content) + 1, block):
        part = content[at : at + block]
        packer = zlib.compressobj(1, zlib.DEFLATED, -15)
        data = packer.compress(part) + packer.flush()
        head = b"\x1f\x8b\x08\4\0\0\0\0\0\xff\6\0BC\2\0" + struct.pack("<H", len(data) + 25)
        made += head + data + struct.pack("<II", zlib.crc32(part), len(part))
    return made + bytes.fromhex("1f8b08040000000000ff0600424302001b0003000000000000000000")


def reseal(folder: Path, change: Callable[[Any], Any] = lambda fields: fields) -> None:
    """Make a manifest vouch for the files as they are, after another change of it."""
    path = folder / MANIFEST
    fields = json.loads(path.read_bytes())
    for name, entry in fields["files"].items():
        data = (folder / name).read_bytes()
        entry |= {"bytes": len(data), "sha256": hashlib.sha256(data).hexdigest()}
    fields = change(fields)
    # Where none can fit the old one stays.
    with contextlib.suppress(ValueError, KeyError, TypeError, RecursionError):
        fields["digest"] = digest_of(fields)
    path.write_text(json.dumps(fields))


def reseal_state(folder: Path, change: Callable[[Any], Any] = lambda state: state) -> None:
    """Make a checkpoint's `state.json` vouch for the files as they are, after another change of it."""
    path = folder / "state.json"
    state = json.loads(path.read_bytes())
    state.pop("digest")
    for name in state["files"]:
        state["files"][name] = hashlib.sha256((folder / name).read_bytes()).hexdigest()
    state = change(state)
    if isinstance(state, dict):
        try:
            state["digest"] = hashlib.sha256(canonical_json(state).encode()).hexdigest()
        except ValueError:
            state["digest"] = ""
    path.write_text(json.dumps(state))
