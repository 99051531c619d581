"""BED, bedGraph, bigWig and chosen rows: against what a slow loop over all predictions gives."""

import csv
import io
import json
import sys
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import cmgems_cli
from cmgems_cli.errors import CmgemsError
from cmgems_cli.inference.hits import Hit, HitSink
from cmgems_cli.inference.prediction import Predicted
from cmgems_cli.inference.prediction_output import prediction_format
from cmgems_cli.inference.results import Predictions
from cmgems_cli.inference.row_blocks import Block
from cmgems_cli.inference.tracks import BedGraph, BigWig, TrackSink
from tests.command_line import CommandLine
from tests.inference.conftest import LABELS, random_sequence

bigwig_files = pytest.importorskip("pyBigWig")

ROUNDED = st.integers(0, 1_000_000).map(lambda units: units / 1e6)
# Of a window: how far behind the one before, and the probability on each strand.
WINDOWS = st.lists(st.tuples(st.integers(0, 6), ROUNDED, ROUNDED), max_size=25)
# Windows of three contigs, and after how many rows each block ends.
SCANS = st.tuples(st.tuples(WINDOWS, WINDOWS, WINDOWS), st.lists(st.integers(1, 9), max_size=8))

Row = tuple[str, int, int, bool, float]


def rows_of(contigs: tuple[Any, ...], *, both: bool) -> list[Row]:
    rows = []
    for name, windows in zip("abc", contigs, strict=True):
        start = 0
        for step, forward, reverse in windows:
            start += step
            rows.append((name, start, start + 5, False, forward))
            if both:
                rows.append((name, start, start + 5, True, reverse))
    return rows


def blocks_of(rows: list[Row], sizes: list[int]) -> list[Predicted]:
    """The rows as blocks that a classifier of two classes judged."""
    blocks = []
    while rows:
        # Both rows of a window are in one block.
        size = 2 * (sizes.pop() if sizes else len(rows))
        part, rows = rows[:size], rows[size:]
        names, starts, ends, reverse, values = map(list, zip(*part, strict=True))
        of_rows = np.zeros(len(part), np.int64)
        places = (np.array(starts), np.array(ends))
        block = Block(names, *places, np.zeros(0, np.int32), of_rows, of_rows, of_rows + 1, np.array(reverse))
        probabilities = np.stack([1 - np.array(values), np.array(values)], axis=1)
        labels: list[str | None] = [("no", "yes")[number] for number in probabilities.argmax(1)]
        blocks.append(Predicted(block, labels, np.bincount(probabilities.argmax(1)), probabilities))
    return blocks


def run(sink_of: Callable[[Any], Any], blocks: list[Predicted]) -> Any:
    """Give blocks to a sink, which is stopped and resumed after each of them."""
    sink = sink_of(None)
    for block in blocks:
        sink.add(block)
        sink = sink_of(json.loads(json.dumps(sink.state())))
    sink.finish()
    return sink


@settings(max_examples=60)
@given(SCANS, st.booleans(), ROUNDED, st.booleans(), st.none() | st.integers(1, 5))
def test_hits_are_those_of_a_slow_loop(
    scan: tuple[Any, list[int]], both: bool, least: float, merge: bool, top: int | None
) -> None:
    rows = rows_of(scan[0], both=both)
    written: list[Hit] = []

    def sink_of(state: Any) -> HitSink:
        options: dict[str, Any] = {"min_prob": least, "merge": merge, "top": top, "state": state}
        return HitSink(written.extend, 1, **options)

    sink = run(sink_of, blocks_of(rows, list(scan[1])))
    expected = [row for row in rows if row[4] >= least]
    if merge:
        joined: list[Row] = []
        for row in sorted(expected, key=lambda row: (row[0], row[3], row[1])):
            before = joined[-1] if joined else None
            if before and (before[0], before[3]) == (row[0], row[3]) and row[1] <= before[2]:
                joined[-1] = (*before[:2], row[2], before[3], max(before[4], row[4]))
            else:
                joined.append(row)
        expected = joined
    found = [(hit.contig, hit.start, hit.end, hit.reverse, hit.value) for hit in written]
    assert sink.hits == len(found)
    if top is not None:
        assert [row[4] for row in found] == sorted((row[4] for row in expected), reverse=True)[:top]
        assert set(found) <= set(expected)
        assert len(found) == min(top, len(expected))
    else:
        assert sorted(found) == sorted(expected)
    if not merge and top is None:
        assert found == expected


@settings(max_examples=60)
@given(SCANS, st.booleans())
def test_a_track_has_the_mean_over_the_windows_of_each_base(scan: tuple[Any, list[int]], both: bool) -> None:
    stream = io.BytesIO()
    rows = rows_of(scan[0], both=both)
    run(lambda state: TrackSink(BedGraph(stream), 1, both=both, state=state), blocks_of(rows, list(scan[1])))
    found: dict[tuple[str, int], float] = {}
    before = ("", 0, "")
    for line in stream.getvalue().decode().splitlines():
        contig, start, end, value = line.split("\t")
        assert int(start) < int(end)
        # Neither over the one before nor its continuation.
        assert (contig, int(start)) != before[:2] or value != before[2]
        for base in range(int(start), int(end)):
            assert (contig, base) not in found
            found[contig, base] = float(value)
        before = (contig, int(end), value)
    over: dict[tuple[str, int], list[float]] = {}
    windows = zip(rows[::2], rows[1::2], strict=True) if both else zip(rows, strict=True)
    for window in windows:
        for base in range(window[0][1], window[0][2]):
            over.setdefault((window[0][0], base), []).append(max(row[4] for row in window))
    assert list(found) == sorted(found)
    assert found.keys() == over.keys()
    for place, values in over.items():
        assert found[place] == pytest.approx(sum(values) / len(values), abs=6e-7)


def test_bigwig_of_contigs_in_another_order_reads_back(tmp_path: Path) -> None:
    scan = ([(3, 0.25, 0.0)], [(0, 0.5, 0.0), (9, 1.0, 0.0)], [])
    rows = [row for row in rows_of(scan, both=False) if row[0] != "a"] + rows_of(
        ([(3, 0.25, 0.0)], [], []), both=False
    )
    with (tmp_path / "x.bw").open("x+b") as stream:
        sizes = {"b": 20, "a": 9, "c": 7, "empty": 0}
        run(
            lambda state: TrackSink(BigWig(stream, sizes), 1, both=False, state=state),
            blocks_of(rows, [1]),
        )
    with bigwig_files.open(str(tmp_path / "x.bw")) as file:
        assert file.chroms() == {"a": 9, "b": 20, "c": 7}
        assert file.intervals("b") == ((0, 5, 0.5), (9, 14, 1.0))
        assert file.intervals("a") == ((3, 8, 0.25),)
        assert file.intervals("c") is None
    assert [path.name for path in tmp_path.iterdir()] == ["x.bw"]


# --- through the command


@pytest.fixture(scope="module")
def genome(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("genome") / "g.fa"
    path.write_text(
        f">chr2\n{random_sequence(200, 1)}{'N' * 40}{random_sequence(80, 2)}\n>chr1\n{random_sequence(90, 3)}\n"
    )
    return path


SCAN = ("--window", "20", "--stride", "8", "--strand", "both")


@pytest.fixture(scope="module")
def scanned(classifier: Path, genome: Path) -> Predictions:
    model = cmgems_cli.load_model(classifier, device="cpu")
    return cmgems_cli.predict(model, genome, window=20, stride=8, strand="both")


def test_bed_has_six_columns_and_scores_to_1000(
    cmgems: CommandLine, classifier: Path, genome: Path, scanned: Predictions, tmp_path: Path
) -> None:
    out = tmp_path / "x.bed"
    command = ("predict", classifier, genome, *SCAN, "--label", "yes")
    done = cmgems(*command, "--out", out, "--json")
    assert scanned.strands is not None
    expected = [
        f"{name}\t{start}\t{end}\tyes\t{round(1000 * round(p, 6))}\t{strand}"
        for name, start, end, strand, p in zip(
            scanned.names,
            scanned.starts,
            scanned.ends,
            scanned.strands,
            scanned.probabilities[:, 1],
            strict=True,
        )
    ]
    assert out.read_text().splitlines() == expected
    assert (done.json["class"], done.json["hits"]) == ("yes", len(expected))
    assert "values are probabilities of the class yes" in done.stderr
    assert cmgems(*command, "--format", "bed").stdout == out.read_text()


def test_a_table_of_the_best_hits(
    cmgems: CommandLine, classifier: Path, genome: Path, scanned: Predictions
) -> None:
    options = ("--label", "perhaps", "--min-prob", "0.4", "--top", "3")
    text = cmgems("predict", classifier, genome, *SCAN, *options).stdout
    rows = list(csv.DictReader(text.splitlines(), delimiter="\t"))
    order = np.argsort(-scanned.probabilities[:, 2].round(6), kind="stable")[:3]
    assert [float(row["p_perhaps"]) for row in rows] == scanned.probabilities[order, 2].round(6).tolist()
    assert [int(row["start"]) for row in rows] == scanned.starts[order].tolist()
    assert list(rows[0]) == ["name", "start", "end", "strand", "label", "p_no", "p_yes", "p_perhaps"]
    assert [row["label"] for row in rows] == [scanned.labels[at] for at in order]


def test_the_table_on_screen_says_what_it_counts(
    cmgems: CommandLine, classifier: Path, genome: Path, scanned: Predictions, tmp_path: Path
) -> None:
    out, command = tmp_path / "x.tsv", ("predict", classifier, genome, *SCAN)
    rows = [
        f"{label} {scanned.labels.count(label)}"
        for label in ("no", "yes", "perhaps")
        if label in scanned.labels
    ]
    for options, title in (
        (("--top", "2", "--label", "yes"), f"predicted labels of all rows; 2 hits of the class yes in {out}"),
        (
            ("--min-prob", "1", "--label", "no"),
            f"predicted labels of all rows; 0 hits of the class no in {out}",
        ),
        ((), f"labels in {out}"),
    ):
        said = " ".join(cmgems(*command, *options, "--out", out, "--overwrite").stdout.split())
        assert title in said
        assert ("all rows" in said) == bool(options)
        assert all(row in said for row in rows)


def test_bigwig_and_bedgraph_of_a_scan_have_the_same_values(
    cmgems: CommandLine, classifier: Path, genome: Path, tmp_path: Path
) -> None:
    command = ("predict", classifier, genome, *SCAN, "--label", "yes", "--out")
    cmgems(*command, tmp_path / "x.bedgraph")
    cmgems(*command, tmp_path / "x.bw")
    found: dict[str, list[tuple[int, int, float]]] = {}
    for line in (tmp_path / "x.bedgraph").read_text().splitlines():
        contig, start, end, value = line.split("\t")
        found.setdefault(contig, []).append((int(start), int(end), float(np.float32(value))))
    with bigwig_files.open(str(tmp_path / "x.bw")) as file:
        assert file.chroms() == {"chr1": 90, "chr2": 320}
        assert {contig: list(file.intervals(contig)) for contig in file.chroms()} == found
    assert sum(end - start for start, end, _ in found["chr2"]) < 320  # the gap has no value


def test_tracks_of_regions_need_them_sorted(
    cmgems: CommandLine, classifier: Path, genome: Path, tmp_path: Path
) -> None:
    bed = tmp_path / "x.bed"
    command = ("predict", classifier, "--regions", bed, "--genome", genome, "--window", "10", "--stride", "5")
    bed.write_text("chr1\t0\t40\nchr1\t20\t60\tx\t0\t-\nchr2\t5\t50\n")
    lines = cmgems(*command, "--label", "no", "--format", "bedgraph").stdout.splitlines()
    spans = [(line.split("\t")[0], *map(int, line.split("\t")[1:3])) for line in lines]
    assert (spans[0][:2], spans[-1][2]) == (("chr1", 0), 50)
    for before, after in pairwise(spans):
        assert before[0] != after[0] or before[2] <= after[1]
    assert sum(end - start for contig, start, end in spans if contig == "chr1") == 60
    for text, line in (("chr1\t9\t40\nchr1\t8\t60\n", 2), ("chr1\t0\t40\nchr2\t0\t9\nchr1\t50\t60\n", 3)):
        bed.write_text(text)
        done = cmgems(*command, "--label", "no", "--format", "bedgraph", code=3)
        assert f"x.bed line {line} goes back on chr1; a track needs regions in order: sort" in done.error
    twice = tmp_path / "twice.fa"
    twice.write_text(f">a\n{random_sequence(30, 1)}\n>a\n{random_sequence(30, 2)}\n")
    done = cmgems("predict", classifier, twice, "--label", "no", "--format", "bedgraph", code=3)
    assert "has two sequences named 'a'" in done.error


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (["--format", "bed"], "the model has 3 classes; name one with --label: no, yes, perhaps"),
        (["--top", "3", "--label", "maybe"], "--label maybe is not a class of the model"),
        (["--merge", "--label", "no", "--window", "20"], "--merge joins hits, and without --min-prob every"),
        (
            ["--merge", "--min-prob", "0.5", "--label", "no"],
            "--merge joins windows or regions, and there are none",
        ),
        (["--format", "bigwig", "--label", "no"], "bigWig is written at once, not to a stream"),
        (
            ["--format", "bedgraph", "--top", "3"],
            "--top 3 chooses hits, and bedgraph has the value of every base",
        ),
    ],
)
def test_options_that_do_not_go_together(
    cmgems: CommandLine, classifier: Path, genome: Path, options: list[str], words: str
) -> None:
    assert words in cmgems("predict", classifier, genome, *options, code=2).error


def test_bigwig_without_pybigwig_names_what_installs_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pyBigWig", None)
    with pytest.raises(CmgemsError, match=r"needs pyBigWig.*pip install 'cmgems\[bigwig\]'"):
        prediction_format(Path("x.bw"), None)


def test_hits_of_two_sequences_of_one_name_are_not_merged(
    cmgems: CommandLine, classifier: Path, tmp_path: Path
) -> None:
    path = tmp_path / "s.fa"
    path.write_text(f">x\n{random_sequence(60, 1)}\n>x\n{random_sequence(60, 2)}\n")
    words = (
        "predict",
        classifier,
        path,
        "--window",
        "30",
        "--min-prob",
        "0",
        "--merge",
        "--label",
        LABELS[0],
    )
    said = cmgems(*words, "--out", tmp_path / "h.tsv", code=3).error
    assert "two sequences named 'x'; in a track, and where hits are merged, a name is one place" in said
    path.write_text(path.read_text().replace(">x", ">y", 1))
    cmgems(*words, "--out", tmp_path / "h.tsv")
    assert [line.split("\t")[:3] for line in (tmp_path / "h.tsv").read_text().splitlines()[1:]] == [
        ["y", "0", "60"],
        ["x", "0", "60"],
    ]
