"""A run of predict or embed that was stopped goes on, and leaves the bytes of one that was not."""

import importlib.util
import json
import re
import signal
from collections.abc import Iterator
from itertools import islice
from pathlib import Path
from typing import Any

import pytest

from cmgems_cli.errors import Interrupted, OverwriteError
from cmgems_cli.inference import embedding, prediction
from cmgems_cli.inference.resumable_output import check_files, partial_files
from cmgems_cli.staging import Staging
from tests.command_line import CommandLine, wait_until
from tests.inference.conftest import as_standard_input, random_sequence

WINDOWS = ("--window", "10", "--stride", "5", "--max-batch-tokens", "12", "--device", "cpu")


@pytest.fixture
def genome(tmp_path: Path) -> Path:
    path = tmp_path / "genome.fa"
    gapped = random_sequence(300, 1) + "N" * 40 + random_sequence(300, 2)
    path.write_text(f">a\n{gapped}\n>b\n{random_sequence(1500, 3)}\n")
    return path


class Stop:
    """Ends a run after some blocks, and counts the blocks of the next."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, module: Any, name: str) -> None:
        self.after: int | None = None
        self.error: BaseException = KeyboardInterrupt()
        self.blocks = 0
        whole = getattr(module, name)

        def cut_short(*arguments: Any, **more: Any) -> Iterator[Any]:
            self.blocks = 0
            for found in islice(whole(*arguments, **more), self.after):
                self.blocks += 1
                yield found
            if self.after is not None:
                raise self.error

        monkeypatch.setattr(module, name, cut_short)


@pytest.fixture
def stop(monkeypatch: pytest.MonkeyPatch) -> Stop:
    return Stop(monkeypatch, prediction, "predict_blocks")


def staged(folder: Path, name: str) -> Path:
    """Return a file of the one staging folder of `out.*`."""
    (path,) = folder.glob(f".out.*.staging/{name}")
    return path


def hidden(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir() if path.name.startswith("."))


@pytest.mark.parametrize(
    ("suffix", "options"),
    [
        ("tsv", ()),
        ("jsonl", ()),
        ("bed", ("--label", "no", "--min-prob", "0.2", "--merge")),
        ("bw", ("--label", "no")),
    ],
)
def test_predictions_go_on_where_they_stopped(
    cmgems: CommandLine,
    suffix: str,
    options: tuple[str, ...],
    classifier: Path,
    genome: Path,
    tmp_path: Path,
    stop: Stop,
) -> None:
    if suffix == "bw":
        pytest.importorskip("pyBigWig")
    whole, out = tmp_path / f"whole.{suffix}", tmp_path / f"out.{suffix}"
    told = cmgems("predict", classifier, genome, *WINDOWS, *options, "--out", whole).stderr
    n_blocks = stop.blocks
    assert n_blocks > 4
    command = ("predict", classifier, genome, *WINDOWS, *options, "--out", out)
    for stop.after in (1, 2):
        assert "the same command resumes" in cmgems(*command, code=130).stderr
        assert not out.exists()
        (left,) = hidden(tmp_path)
        assert re.fullmatch(rf"\.out\.{suffix}\.[0-9a-f]{{16}}\.staging", left)
    stop.after = None
    resumed = cmgems(*command).stderr
    assert stop.blocks == n_blocks - 3
    assert out.read_bytes() == whole.read_bytes()
    assert hidden(tmp_path) == []
    # The total and what was left out are those of the whole; the rate is of what was new.
    rows = next(line for line in told.splitlines() if "windows in" in line).split()[0]
    assert f"{rows} with the" in resumed
    assert ("omitted" in told) == ("omitted" in resumed)


@pytest.mark.parametrize("pooling", ["mean", "tokens"])
@pytest.mark.parametrize("suffix", ["npy", "safetensors"])
def test_embeddings_go_on_where_they_stopped(
    cmgems: CommandLine,
    pooling: str,
    suffix: str,
    classifier: Path,
    genome: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    stop = Stop(monkeypatch, embedding, "embed_blocks")
    whole, out = tmp_path / f"whole.{suffix}", tmp_path / f"out.{suffix}"
    arguments = ("embed", classifier, genome, *WINDOWS, "--pooling", pooling)
    cmgems(*arguments, "--out", whole)
    stop.after, stop.error = 3, Interrupted("stopped by SIGTERM", 143)
    cmgems(*arguments, "--out", out, code=143)
    stop.after = None
    cmgems(*arguments, "--out", out)
    for one, other in ((whole, out), (whole.with_suffix(".names.tsv"), out.with_suffix(".names.tsv"))):
        assert one.read_bytes() == other.read_bytes()
    assert hidden(tmp_path) == []


def test_half_a_block_written_is_cut_off(
    cmgems: CommandLine, classifier: Path, genome: Path, tmp_path: Path, stop: Stop
) -> None:
    whole, out = tmp_path / "whole.tsv", tmp_path / "out.tsv"
    cmgems("predict", classifier, genome, *WINDOWS, "--out", whole)
    stop.after = 2
    cmgems("predict", classifier, genome, *WINDOWS, "--out", out, code=130)
    with staged(tmp_path, "new/out.tsv").open("ab") as stream:
        stream.write(b"a\t5\t1")
    stop.after = None
    cmgems("predict", classifier, genome, *WINDOWS, "--out", out)
    assert out.read_bytes() == whole.read_bytes()


def test_another_task_is_refused_and_no_resume_starts_again(
    cmgems: CommandLine, classifier: Path, genome: Path, tmp_path: Path, stop: Stop
) -> None:
    out = tmp_path / "out.tsv"
    command = ["predict", classifier, genome, *WINDOWS, "--out", out]
    stop.after = 2
    cmgems(*command, code=130)
    stop.after = None
    other = [*command, "--stride", "4"]
    assert "was begun with stride = 5, this command has 4" in cmgems(*other, code=4).stderr
    genome.write_text(genome.read_text().replace("A", "C", 1))
    assert "input_sha256" in cmgems(*command, code=4).stderr
    cmgems(*other, "--no-resume")
    found = out.read_bytes()
    assert hidden(tmp_path) == []
    cmgems(*other, "--overwrite")
    assert out.read_bytes() == found


@pytest.mark.parametrize("damage", ["shorter", "flipped", "gone", "no checkpoint", "flipped checkpoint"])
def test_partial_files_that_lost_something_are_begun_again(
    cmgems: CommandLine, damage: str, classifier: Path, genome: Path, tmp_path: Path, stop: Stop
) -> None:
    out = tmp_path / "out.tsv"
    command = ("predict", classifier, genome, *WINDOWS, "--out", out)
    cmgems(*command)
    whole, n_blocks = out.read_bytes(), stop.blocks
    out.unlink()
    stop.after = 2
    cmgems(*command, code=130)
    stop.after = None
    aside = staged(tmp_path, "new/out.tsv")
    if damage == "shorter":
        aside.write_bytes(aside.read_bytes()[:-1])
    elif damage == "flipped":
        content = bytearray(aside.read_bytes())
        content[len(content) // 2] ^= 1
        aside.write_bytes(content)
    elif damage == "gone":
        aside.unlink()
    elif damage == "flipped checkpoint":
        checkpoint = staged(tmp_path, "checkpoint.json")
        counts = json.loads(checkpoint.read_bytes())["kept"]["counts"]
        assert sum(counts) > 0
        text = checkpoint.read_text()
        at = text.index("[", text.index('"kept"'))
        digit = next(i for i in range(at, len(text)) if text[i].isdigit())
        checkpoint.write_text(text[:digit] + str((int(text[digit]) + 1) % 10) + text[digit + 1 :])
    else:
        staged(tmp_path, "checkpoint.json").write_text("{")
    cmgems(*command)
    assert stop.blocks == n_blocks
    assert out.read_bytes() == whole


def test_standard_input_does_not_undo_what_a_file_began(
    cmgems: CommandLine, classifier: Path, genome: Path, tmp_path: Path, stop: Stop
) -> None:
    command = [classifier, *WINDOWS, "--out", tmp_path / "out.tsv"]
    stop.after = 2
    cmgems("predict", *command, genome, code=130)
    begun = hidden(tmp_path)
    stop.after = None
    with as_standard_input(genome.read_bytes()):
        assert "was begun with a file" in cmgems("predict", *command, "-", code=4).stderr
    assert hidden(tmp_path) == begun
    with as_standard_input(genome.read_bytes()):
        cmgems("predict", *command, "-", "--no-resume")
    assert hidden(tmp_path) == []


def write_two(outs: list[Path], content: bytes = b"rows", *, resume: bool = True) -> int:
    """Write two files in two blocks; return how many blocks were done before."""
    with partial_files(outs, {"of": 1}, resume=resume) as files:
        before = files.blocks
        for _ in range(files.blocks, 2):
            for stream in files.streams:
                stream.write(content)
            files.block_done()
    return before


@pytest.mark.parametrize("renames", [0, 1, 2])
def test_r1_a_kill_between_the_renames_is_finished_by_the_same_command(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, renames: int
) -> None:
    outs, whole, left = [tmp_path / "out.npy", tmp_path / "out.names.tsv"], Path.replace, [renames]

    class Killed(BaseException):
        pass

    def replace(self: Path, target: Path) -> Path:
        if target in outs:
            left[0] -= 1
            if left[0] < 0:
                raise Killed
        return whole(self, target)

    with monkeypatch.context() as patch:
        patch.setattr(Path, "replace", replace)
        patch.setattr(Staging, "remove", lambda self: (_ for _ in ()).throw(Killed()))
        with pytest.raises(Killed):
            write_two(outs)
    check_files(outs, overwrite=renames == 2)
    assert write_two(outs) == 2
    assert [out.read_bytes() for out in outs] == [b"rowsrows"] * 2
    assert sorted(path.name for path in tmp_path.iterdir()) == ["out.names.tsv", "out.npy"]


@pytest.mark.parametrize("name", [".out.tsv.partial", ".out.tsv.checkpoint.json", ".out.tsv.staging"])
def test_prepared_names_are_not_followed(tmp_path: Path, name: str) -> None:
    precious = tmp_path / "precious"
    precious.write_text("keep")
    (tmp_path / name).symlink_to(precious)
    write_two([tmp_path / "out.tsv", tmp_path / "names.tsv"])
    assert precious.read_text() == "keep"
    assert not (tmp_path / "out.tsv").is_symlink()


@pytest.mark.skipif(importlib.util.find_spec("fcntl") is None, reason="needs fcntl's locks")
def test_two_commands_never_write_one_file(tmp_path: Path) -> None:
    out = tmp_path / "out.tsv"
    with partial_files([out], {"of": 1}) as files:
        files.streams[0].write(b"mine")
        told = pytest.raises(OverwriteError, match=rf"another command is writing to {out}; wait")
        with told, partial_files([out], {"of": 1}):
            pass
        files.block_done()
    assert out.read_bytes() == b"mine"
    assert [path.name for path in tmp_path.iterdir()] == ["out.tsv"]


def test_of_standard_input_nothing_is_left(
    cmgems: CommandLine, classifier: Path, genome: Path, tmp_path: Path, stop: Stop
) -> None:
    stop.after = 2
    with as_standard_input(genome.read_bytes()):
        told = cmgems("predict", classifier, "-", *WINDOWS, "--out", tmp_path / "out.tsv", code=130).stderr
    assert "nothing half-written was kept" in told
    assert [path.name for path in tmp_path.iterdir()] == ["genome.fa"]


@pytest.mark.subprocess
@pytest.mark.parametrize("signum", [signal.SIGKILL, signal.SIGTERM])
def test_a_process_that_was_ended_goes_on(
    cmgems: CommandLine, signum: signal.Signals, classifier: Path, tmp_path: Path, stop: Stop
) -> None:
    genome, out, whole = tmp_path / "long.fa", tmp_path / "out.tsv", tmp_path / "whole.tsv"
    genome.write_text(f">long\n{random_sequence(6_000, 5)}\n")
    command = ["predict", str(classifier), str(genome), *WINDOWS, "--max-batch-tokens", "24", "--out"]
    process = cmgems.start(*command, out)
    wait_until(lambda: [*tmp_path.glob(".out.tsv.*/checkpoint.json")], process)
    process.send_signal(signum)
    cmgems.finish(process, code=143 if signum == signal.SIGTERM else -signum)
    cmgems(*command, whole)
    n_blocks = stop.blocks
    cmgems(*command, out)
    assert 0 < stop.blocks < n_blocks
    assert out.read_bytes() == whole.read_bytes()


@pytest.mark.parametrize("name", ["out.npy", "out.names.tsv", "out.safetensors"])
@pytest.mark.parametrize("place", [0.0, 0.3, 0.7, 1.0])
def test_s4_a_flip_in_rows_already_written_never_comes_out(
    cmgems: CommandLine,
    classifier: Path,
    genome: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    name: str,
    place: float,
) -> None:
    stop = Stop(monkeypatch, embedding, "embed_blocks")
    suffix = "safetensors" if name == "out.safetensors" else "npy"
    out, whole = tmp_path / f"out.{suffix}", tmp_path / f"whole.{suffix}"
    command = ("embed", classifier, genome, *WINDOWS, "--out")
    cmgems(*command, whole)
    stop.after = 4
    cmgems(*command, out, code=130)
    stop.after = None
    partial = staged(tmp_path, f"new/{name}")
    content = bytearray(partial.read_bytes())
    content[int(place * (len(content) - 1))] ^= 4
    partial.write_bytes(content)
    cmgems(*command, out)
    for ending in (suffix, "names.tsv"):
        assert (tmp_path / f"out.{ending}").read_bytes() == (tmp_path / f"whole.{ending}").read_bytes()
    assert hidden(tmp_path) == []


def test_b2_an_output_is_never_what_the_command_reads(tmp_path: Path) -> None:
    """With `--overwrite` the input, the genome or the model would be gone."""
    model, variants = tmp_path / "model", tmp_path / "v.vcf"
    model.mkdir()
    for path in (variants, model / "config.json", model / "earlier.tsv", tmp_path / "free.tsv"):
        path.write_text("x")
    link, hard = tmp_path / "link.vcf", tmp_path / "hard.vcf"
    link.symlink_to(variants)
    hard.hardlink_to(variants)
    for out in (variants, link, hard, model / "config.json", model / ".." / "v.vcf"):
        with pytest.raises(OverwriteError, match="is what this command reads"):
            check_files([out], overwrite=True, reads=[model, None, variants, tmp_path / "missing"])
    for out in (model / "earlier.tsv", tmp_path / "free.tsv", tmp_path / "new.tsv"):
        check_files([out], overwrite=True, reads=[model, None, variants])
    with pytest.raises(OverwriteError, match="exists"):
        check_files([tmp_path / "free.tsv"], overwrite=False, reads=[variants])
