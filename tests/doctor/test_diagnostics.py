"""doctor: what it advises on machines of every kind, and what it measures on this one."""

from dataclasses import replace
from pathlib import Path

import pytest
import torch
from transformers import BertForMaskedLM

from cmgems_cli.commands.doctor import _show
from cmgems_cli.console import Console
from cmgems_cli.doctor import diagnostics
from cmgems_cli.doctor.diagnostics import (
    CapacityCheck,
    Diagnosis,
    Probe,
    advice,
    attention_of,
    capacity_checks,
    measure,
    problems,
)
from cmgems_cli.genome.bundled import bundled_fasta
from cmgems_cli.genome.preparation import prepare_genome
from cmgems_cli.modeling import encoder
from cmgems_cli.modeling.presets import bert_config
from cmgems_cli.system_info import Device, Version
from cmgems_cli.training.processes import start_processes
from tests.command_line import CommandLine

GB = 10**9
CPU = Device("cpu", "Abacus", 16 * GB, 12 * GB, bf16=True)
GPU = Device("cuda:0", "NVIDIA A", 80 * GB, 79 * GB, bf16=True)
PROBE = Probe("logo", "cpu", "bf16", "fused", 5_000_000, 8_192, 10_000.0, 1 * GB, 3e11, 1e12, None)
NO_DISK = CapacityCheck("a corpus", diagnostics.DISK, 3 * GB, GB)
NO_MEMORY = CapacityCheck("pretrain", "memory of cuda:0", 3 * GB, GB)
FINE = Diagnosis(
    versions=[Version("python", "3.11.7", ">=3.11"), Version("torch", "2.13.0", ">=2.6")],
    devices=[CPU],
    cores=8.0,
    threads=8,
    busy_cores=0.1,
    probe=PROBE,
    capacity_checks=[CapacityCheck("a corpus", diagnostics.DISK, 2 * GB, 50 * GB)],
    may_write=True,
    nvidia_driver=False,
    torch_cuda=None,
    offline=None,
)


def test_a_machine_that_has_all_needs_no_advice() -> None:
    assert problems(FINE) == []
    assert advice(FINE) == []
    assert advice(replace(FINE, devices=[CPU, GPU], nvidia_driver=True, torch_cuda="13.0")) == []


@pytest.mark.parametrize(
    ("changed", "words"),
    [
        ({"versions": [Version("torch", "2.5", ">=2.6")]}, "torch 2.5 is installed; needed >=2.6: pip install 't"),
        ({"versions": [Version("numba", None, ">=0.61")]}, "no numba is installed"),
        ({"versions": [Version("python", "3.10.1", ">=3.11")]}, "install Python >=3.11"),
        ({"may_write": False}, "is not writable: set CMGEMS_WORKSPACE"),
        ({"capacity_checks": [NO_DISK]}, "needs 3.0 GB, 1.0 GB are free: set CMGEMS_W"),
        ({"capacity_checks": [NO_MEMORY]}, "give `cmgems pretrain --max-batch-tokens` a lower number"),
    ],
)  # fmt: skip
def test_problems_name_their_remedy(changed: dict[str, object], words: str) -> None:
    (sentence,) = problems(replace(FINE, **changed))  # type: ignore[arg-type]
    assert words in sentence
    assert "\n" not in sentence


@pytest.mark.parametrize(
    ("changed", "words"),
    [
        ({"nvidia_driver": True}, "torch was built without CUDA"),
        ({"nvidia_driver": True, "torch_cuda": "13.0"}, "torch finds no GPU: check CUDA_VISIBLE_DEVICES"),
        ({"devices": [CPU, GPU, replace(GPU, name="cuda:1")]}, "torchrun --nproc-per-node 2"),
        ({"devices": [replace(CPU, bf16=False)]}, "Abacus has no bf16"),
        ({"devices": [CPU, replace(GPU, bf16=False)]}, "NVIDIA A has no bf16"),
        ({"threads": 1}, "torch uses 1 of 8 cores: unset OMP_NUM_THREADS"),
        ({"threads": 64}, "set OMP_NUM_THREADS=8"),
        ({"threads": 3, "cores": 2.5}, "torch starts 3 threads, but only 2.5 cores may be used: set OMP_NUM_THREADS=2"),
        ({"busy_cores": 5.0}, "kept 5.0 of 8 cores busy"),
        ({"probe": replace(PROBE, model="dnabert", tokens_per_s=430)}, "26 days here: `cmgems pretrain --model logo`"),
        ({"probe": replace(PROBE, tokens_per_s=1_000.0)}, "take 11 days here: `cmgems pretrain --steps 1000`"),
        ({"offline": "HF_HUB_OFFLINE=1"}, "HF_HUB_OFFLINE=1: `cmgems fetch` does not use the network"),
    ],
)  # fmt: skip
def test_advice(changed: dict[str, object], words: str) -> None:
    (sentence,) = advice(replace(FINE, **changed))  # type: ignore[arg-type]
    assert words in sentence
    assert "\n" not in sentence


def test_a_gpu_makes_the_cpus_shortcomings_no_matter() -> None:
    weak = [replace(CPU, bf16=False), GPU]
    assert advice(replace(FINE, devices=weak, threads=1)) == []


def test_unknown_free_space_fits() -> None:
    assert CapacityCheck("a", "memory", 10**15, None).fits


def test_the_recipe_is_the_papers() -> None:
    # 10,000 steps of 250 sequences: half of 512 tokens, half of 7 to 512.
    assert diagnostics.RECIPE_TOKENS == 10_000 * 250 * (512 + (7 + 512) / 2) / 2
    assert replace(PROBE, tokens_per_s=11_865.0).recipe_s / 3600 == pytest.approx(22.6, abs=0.05)


def test_existing_files_of_the_workspace_need_no_space(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CMGEMS_WORKSPACE", str(tmp_path))
    before = capacity_checks(PROBE, CPU, CPU)[0].needed_bytes
    (tmp_path / "downloads").mkdir()
    (tmp_path / "downloads" / "hg38.fa.gz").touch()
    after = capacity_checks(PROBE, CPU, CPU)[0].needed_bytes
    assert before - after == diagnostics.FASTA_BYTES
    (tmp_path / "corpus").mkdir()
    (tmp_path / "corpus" / "manifest.json").touch()
    assert after - capacity_checks(PROBE, CPU, CPU)[0].needed_bytes == diagnostics.CORPUS_BYTES
    on_a_gpu = capacity_checks(replace(PROBE, device="cuda:0"), GPU, CPU)[-1]
    assert (on_a_gpu.where, on_a_gpu.free_bytes) == ("memory of cuda:0", 79 * GB)


def test_the_size_of_a_corpus_is_foreseen(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    manifest = prepare_genome([bundled_fasta()], tmp_path / "corpus")
    taken = sum(manifest.files[name]["bytes"] for name in ("bases.npy", "windows.npy"))
    foreseen = diagnostics.CORPUS_BYTES / diagnostics.GENOME_BASES * manifest.stats["bases"]
    assert foreseen == pytest.approx(taken, rel=0.03)


def test_attention_is_described(monkeypatch: pytest.MonkeyPatch) -> None:
    cpu = torch.device("cpu")
    assert "dropout" in attention_of("dnabert", cpu, "bf16")
    assert "fused" in attention_of("logo", cpu, "fp32")
    card = torch.device("cuda", 0)
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda device: (9, 0))
    works = [True]
    monkeypatch.setattr(encoder, "packed_attention_works", lambda device: works[0])
    assert "FlashAttention 2" in attention_of("dnabert", card, "bf16")
    monkeypatch.setattr(diagnostics, "has_flash_attention_3", lambda device, dropout: dropout == 0.0)
    assert "FlashAttention 2" in attention_of("dnabert", card, "bf16")
    assert "FlashAttention 3" in attention_of("logo", card, "bf16")
    assert "fused" in attention_of("dnabert", card, "fp32")
    works[0] = False
    assert "fused" in attention_of("dnabert", card, "bf16")


def test_a_model_is_measured_on_this_machine() -> None:
    probe = measure("tiny", start_processes("cpu"), 0.2)
    assert probe.tokens_per_s > 100
    assert probe.parameters == BertForMaskedLM(bert_config("tiny", 6)).num_parameters()
    assert probe.memory_bytes > 10**8
    assert probe.device == "cpu"
    assert 0 < probe.of_matrix_rate < 1
    assert probe.of_nominal_peak is None


def test_both_shares_are_shown_where_the_nominal_peak_is_known(capsys: pytest.CaptureFixture[str]) -> None:
    # The figures of the log: 239 TFLOP/s of 765 measured and 989 nominal.
    h100 = replace(PROBE, flop_per_s=239e12, matrix_flop_per_s=765e12, nominal_flop_per_s=989.4e12)
    _show(Console(), replace(FINE, probe=h100), [], [])
    shown = capsys.readouterr().out
    for words in ("239 TFLOP/s", "measured matrix rate, 765", "31.2%", "nominal peak, 989", "24.2%"):
        assert words in shown
    _show(Console(), FINE, [], [])
    assert "nominal" not in capsys.readouterr().out


def test_doctor_tells_people_and_programs(
    cmgems: CommandLine, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CMGEMS_WORKSPACE", str(tmp_path / "work"))
    monkeypatch.setattr(diagnostics, "PROBE_SECONDS", 0.2)
    result = cmgems("doctor", "--model", "tiny", "--device", "cpu")
    for words in (
        "versions",
        "torch",
        "devices",
        "bf16",
        "tokens per second",
        "space for the full recipe",
        "what to change",
    ):
        assert words in result.stdout
    assert not (tmp_path / "work").exists()
    result = cmgems("doctor", "--model", "tiny", "--json", "--quiet")
    value = result.json
    assert result.stderr == ""
    assert value["versions"]["torch"]["fits"] is True
    assert value["devices"][0]["name"] == "cpu"
    assert value["probe"]["of_matrix_rate"] > 0
    assert value["probe"]["hours_10000_steps"] == pytest.approx(10 * value["probe"]["hours_1000_steps"])
    assert {check["what"] for check in value["capacity_checks"]} >= {"prepare-genome of GRCh38"}
    assert all(isinstance(check["fits"], bool) for check in value["capacity_checks"])
    assert isinstance(value["problems"], list)
    assert isinstance(value["advice"], list)


def test_a_device_that_is_not_there_is_one_line(cmgems: CommandLine) -> None:
    if torch.cuda.is_available():
        pytest.skip("there is a GPU")
    result = cmgems("doctor", "--device", "cuda", code=2)
    assert "finds no CUDA device" in result.stderr.splitlines()[-1]
    assert "Traceback" not in result.stderr
