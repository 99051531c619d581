"""Opening a corpus: content that fits neither its manifest nor itself is refused before compiled code reads it."""

import json
import multiprocessing
import os
import re
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from cmgems_cli.artifacts import finish_artifact, read_manifest
from cmgems_cli.errors import InputError
from cmgems_cli.genome import arrays
from cmgems_cli.genome.arrays import read_array
from cmgems_cli.genome.corpus import BASES, CONTIGS, RUN, RUNS, WINDOW, WINDOWS, Corpus
from cmgems_cli.genome.intervals import intervals_of
from cmgems_cli.genome.preparation import prepare_genome
from cmgems_cli.pmi.counting import count_orders
from tests.command_line import CommandLine
from tests.genome.reference import write_fasta

LETTERS = "ACGTTGCATTAGGACC" * 40 + "N" + "TTGACCAGATTACA" * 30


@pytest.fixture
def corpus(tmp_path: Path) -> Path:
    prepare_genome([write_fasta(tmp_path / "g.fa", {"chr20": LETTERS})], tmp_path / "corpus", max_tokens=60)
    return tmp_path / "corpus"


def flip(path: Path, at: int) -> None:
    content = bytearray(path.read_bytes())
    content[at] ^= 0x10
    path.write_bytes(content)


def vouched(folder: Path, *, params: dict[str, Any] | None = None, **stats: Any) -> Path:
    """Write the manifest again, so that it vouches for what the files hold now."""
    old = read_manifest_unchecked(folder)
    finish_artifact(
        folder,
        "corpus",
        params=old["params"] if params is None else params,
        inputs=old["inputs"],
        stats={name: value for name, value in {**old["stats"], **stats}.items() if value != "absent"},
        files=[BASES, WINDOWS, RUNS, CONTIGS],
        environment={},
    )
    read_manifest(folder, "corpus", verify=True)
    return folder


def read_manifest_unchecked(folder: Path) -> dict[str, Any]:
    manifest: dict[str, Any] = json.loads((folder / "manifest.json").read_text())
    return manifest


@pytest.mark.parametrize("name", [BASES, WINDOWS, RUNS, CONTIGS])
@pytest.mark.parametrize("command", ["build-pmi", "show-masks", "pretrain"])
def test_s1_a_flipped_bit_of_a_corpus_is_noticed_where_it_is_used(
    cmgems: CommandLine, corpus: Path, name: str, command: str
) -> None:
    flip(corpus / name, (corpus / name).stat().st_size - 3)
    out = corpus.parent / "out"
    words = [command, corpus, *([] if command == "show-masks" else ["--out", out])]
    if command == "pretrain":
        words += ["--strategy", "random", "--model", "tiny", "--steps", 2, "--device", "cpu"]
    assert f"{corpus / name} does not have the sha256" in cmgems(*words, code=3).error
    assert not out.exists()


def change(name: str, dtype: np.dtype, **values: int) -> Callable[[Path], Path]:
    """Change the last row of an array, and let the manifest vouch for it."""

    def _change(folder: Path) -> Path:
        array = np.array(read_array(folder / name, dtype))
        for field, value in values.items():
            array[field][-1] = value
        np.save(folder / name, array)
        return vouched(folder)

    return _change


def save(name: str, array: np.ndarray) -> Callable[[Path], Path]:
    def _save(folder: Path) -> Path:
        np.save(folder / name, array)
        return vouched(folder)

    return _save


def header(name: str, old: bytes, new: bytes) -> Callable[[Path], Path]:
    """Edit a header, which keeps its length."""

    def _edit(folder: Path) -> Path:
        head, rest = (folder / name).read_bytes().split(b"\n", 1)
        assert old in head
        (folder / name).write_bytes(head.replace(old, new)[: len(head)].ljust(len(head)) + b"\n" + rest)
        return vouched(folder)

    return _edit


def param(k: object) -> Callable[[Path], Path]:
    return lambda folder: vouched(folder, params={"k": k})


def n_valid(value: object) -> Callable[[Path], Path]:
    return lambda folder: vouched(folder, valid_sequences=value)


@pytest.mark.parametrize(
    ("damage", "said"),
    [
        (change(WINDOWS, WINDOW, start=10**6), "extends beyond its 1,060 bases"),
        (change(WINDOWS, WINDOW, start=2**63 - 1), "extends beyond"),
        (change(WINDOWS, WINDOW, start=-1), "extends beyond"),
        (change(WINDOWS, WINDOW, start=1050), "extends beyond"),
        (change(WINDOWS, WINDOW, n_tokens=65535), "extends beyond"),
        (change(RUNS, RUN, start=5), "its runs are not those of its 265 bytes"),
        (change(RUNS, RUN, length_bases=10**6), "longer than its bases"),
        (change(RUNS, RUN, length_bases=-1), "longer than its bases"),
        (change(RUNS, RUN, length_bases=3), "its runs are not those"),
        (save(RUNS, np.zeros((), RUN)), "not a one-dimensional array"),
        (save(RUNS, np.zeros((2, 2), RUN)), "not a one-dimensional array"),
        (save(WINDOWS, np.zeros((), WINDOW)), "not a one-dimensional array"),
        (save(WINDOWS, np.zeros(9, np.float64)), "not a one-dimensional array"),
        (save(BASES, np.zeros(265, np.int8)), "not a one-dimensional array"),
        (save(BASES, np.zeros(264, np.uint8)), "its runs are not those of its 264 bytes"),
        (save(BASES, np.zeros(0, np.uint8)), "longer than its bases"),
        (header(RUNS, b"'shape': (2,)", b"'shape': (1000000000000000000,)"), "rows that its header declares"),
        (header(BASES, b"'shape': (265,)", b"'shape': (9999999999,)"), "rows that its header declares"),
        (header(BASES, b"'shape': (265,)", b"'shape': (264,)"), "rows that its header declares"),
        (header(BASES, b"'shape': (265,)", b"'shape': (-1,)"), "not a one-dimensional array"),
        (header(BASES, b"{'descr': '|u1'", b"{'descr': __import__('os')"), "not a one-dimensional array"),
        (header(BASES, b"{'descr'", b"(" * 80 + b"{'descr'"), "not a one-dimensional array"),
        (header(BASES, b"NUMPY\x01", b"NUMPY\x03"), "not a one-dimensional array"),
        (param("x"), "not a readable manifest (k is 'x')"),
        (param(None), "gives k = None"),
        (param(6.0), "not a readable manifest (k is '6.0')"),
        (param(2), "gives k = 2"),
        (param(30), "gives k = 30"),
        (n_valid("absent"), "gives valid_sequences = None"),
        (n_valid(10**9), "gives valid_sequences = 1000000000"),
        (n_valid(-1), "gives valid_sequences = -1"),
        (n_valid([]), "not a readable manifest (valid_sequences is '[]')"),
    ],
)
def test_c1_arrays_that_do_not_fit_are_refused_though_the_manifest_vouches(
    cmgems: CommandLine, corpus: Path, damage: Callable[[Path], Path], said: str
) -> None:
    with pytest.raises(InputError, match=re.escape(said)):
        Corpus.open(damage(corpus))
    assert said in cmgems("build-pmi", corpus, "--out", corpus.parent / "pmi", code=3).error


def test_c1_one_flipped_bit_of_windows_npy_never_reaches_compiled_code(corpus: Path) -> None:
    """Each bit of the file, one at a time, vouched for: refused, or every sequence can be decoded."""
    path = corpus / WINDOWS
    whole = path.read_bytes()
    refused = 0
    for bit in range(0, 8 * len(whole), 37):
        content = bytearray(whole)
        content[bit // 8] ^= 1 << bit % 8
        path.write_bytes(content)
        vouched(corpus)
        try:
            opened = Corpus.open(corpus)
        except InputError:
            refused += 1
            continue
        token_ids, _ = opened.token_ids(np.arange(len(opened.windows)))
        assert 5 <= token_ids.min() <= token_ids.max() < 5 + 4**6
    assert refused > 20


def test_a_contig_number_without_a_name_is_refused(corpus: Path) -> None:
    opened = Corpus.open(change(WINDOWS, WINDOW, contig=7)(corpus))
    with pytest.raises(InputError, match="lacks a contig"):
        intervals_of(opened, np.array([len(opened.windows) - 1]))
    short = (corpus / CONTIGS).read_bytes() + b"one,cell\n"
    for content in (b"\xff\x00", b"", b"\n", b"record\n", short):
        (corpus / CONTIGS).write_bytes(content)
        with pytest.raises(InputError, match=r"contigs\.csv is damaged .*make the corpus again"):
            intervals_of(opened, np.array([0]))


def test_long_arrays_are_mapped_and_equal(corpus: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    read = Corpus.open(corpus)
    monkeypatch.setattr(arrays, "IN_MEMORY_BYTES", 100)
    mapped = Corpus.open(corpus)
    assert isinstance(mapped.bases, np.memmap)
    assert not isinstance(read.bases, np.memmap)
    rows = np.arange(len(read.windows))
    for ours, theirs in zip(read.token_ids(rows), mapped.token_ids(rows), strict=True):
        np.testing.assert_array_equal(ours, theirs)


@pytest.mark.parametrize("name", [BASES, WINDOWS])
@pytest.mark.parametrize("size", [0, 130])
def test_c2_a_corpus_cut_while_it_is_used_still_has_the_content_that_was_checked(
    corpus: Path, name: str, size: int
) -> None:
    opened = Corpus.open(corpus)
    rows = np.arange(len(opened.windows))
    before = opened.token_ids(rows)[0]
    os.truncate(corpus / name, size)
    np.testing.assert_array_equal(opened.token_ids(rows)[0], before)


def _use_cut_map(folder: Path, name: str, use: str) -> None:
    arrays.IN_MEMORY_BYTES = 100
    opened = Corpus.open(folder)
    os.truncate(folder / name, 0)
    try:
        if use == "decode":
            opened.token_ids(np.arange(len(opened.windows)))
        else:
            count_orders(opened.bases, opened.runs["start"], opened.runs["length_bases"], 6)
    except InputError as error:
        os._exit(9 if "became shorter while it was used" in str(error) else 1)
    os._exit(0)


@pytest.mark.parametrize(("name", "use"), [(BASES, "decode"), (WINDOWS, "decode"), (BASES, "count")])
def test_c2_a_mapped_file_that_is_cut_is_an_error_and_no_sigbus(corpus: Path, name: str, use: str) -> None:
    # In a process of its own, which SIGBUS would end with -7.
    process = multiprocessing.get_context("fork").Process(target=_use_cut_map, args=(corpus, name, use))
    process.start()
    process.join(60)
    assert process.exitcode == 9


def test_an_open_corpus_outlives_its_folder(corpus: Path) -> None:
    opened = Corpus.open(corpus)
    shutil.rmtree(corpus)
    assert opened.token_ids(np.array([0]))[0].size
