"""Diagnose how the full recipe would run on this machine: speed, memory, disk, problems and advice."""

from __future__ import annotations

import tempfile
from dataclasses import dataclass, replace
from pathlib import Path

import torch

from cmgems_cli import workspace
from cmgems_cli.artifacts import is_finished
from cmgems_cli.genome.bundled import bundled_fasta
from cmgems_cli.genome.preparation import prepare_genome
from cmgems_cli.modeling.encoder import packs_sequences
from cmgems_cli.modeling.packed_attention import has_flash_attention_3
from cmgems_cli.modeling.presets import PRESETS
from cmgems_cli.system_info import (
    Device,
    Version,
    busy_cores,
    cores,
    devices,
    free_disk,
    has_nvidia_driver,
    may_write,
    versions,
)
from cmgems_cli.training.build import build_pretraining_run
from cmgems_cli.training.matrix_rate import nominal_peak
from cmgems_cli.training.pretrain_options import PretrainingOptions
from cmgems_cli.training.processes import Processes, start_processes

# ours: short enough to wait for.
PROBE_SECONDS = 2.0
# ours: two sequences of 512. One larger micro-batch of dnabert exceeds PROBE_SECONDS on most CPUs.
CPU_TOKENS_OF_LARGE = 1_024

# paper, section 5.3: 10,000 steps; DNABERT's script: 250 sequences each. Half of them have 512 tokens with [CLS]
# and [SEP], the others half as many on average (method, section 2).
STEPS, SEQUENCES, MEAN_TOKENS = 10_000, 250, 385.75
RECIPE_TOKENS = STEPS * SEQUENCES * MEAN_TOKENS

# GRCh38's chromosomes 1–22, X and Y: 3.09 Gbp, 0.15 of them N.
GENOME_BASES = 2_940_000_000
# cmgems_cli/fetching/sources.py: UCSC's hg38.fa.gz.
FASTA_BYTES = 983_659_424
# docs/artifacts.md: four bases per byte, and 13 bytes per sequence, which has 389 bases on average.
CORPUS_BYTES = round(GENOME_BASES * (1 / 4 + 13 / 388.75))
# docs/log.md: peak memory of prepare-genome at 3.1 Gbp.
PREPARING_BYTES = 433_000_000
# float32 weights; a checkpoint also has AdamW's two moments, and two are kept until the next one is complete.
MODEL_BYTES_PER_PARAMETER, CHECKPOINT_BYTES_PER_PARAMETER = 4, 3 * 3 * 4

DISK = "disk of the workspace"


@dataclass(frozen=True)
class Probe:
    """Measured speed and memory of pretraining on this machine.

    Attributes
    ----------
    model : str
        Name of a preset.
    device, precision, attention : str
        The choices that `auto` made.
    parameters : int
    max_batch_tokens : int
        Limit of the measured micro-batches.
    tokens_per_s : float
        Real tokens, including special tokens, excluding padding.
    memory_bytes : int
        Peak memory of this process, or of the GPU on CUDA.
    flop_per_s : float
        Matrix products that the loss needs (`matrix_rate.needed_flop`).
    matrix_flop_per_s : float
        Of a large product on this device, measured.
    nominal_flop_per_s : float or None
        Nominal peak of the card; None if unknown.
    """

    model: str
    device: str
    precision: str
    attention: str
    parameters: int
    max_batch_tokens: int
    tokens_per_s: float
    memory_bytes: int
    flop_per_s: float
    matrix_flop_per_s: float
    nominal_flop_per_s: float | None

    @property
    def of_matrix_rate(self) -> float:
        """Fraction of the measured matrix rate that the loss makes use of."""
        return self.flop_per_s / self.matrix_flop_per_s

    @property
    def of_nominal_peak(self) -> float | None:
        """Fraction of the nominal peak; None if that is unknown."""
        return self.flop_per_s / self.nominal_flop_per_s if self.nominal_flop_per_s else None

    @property
    def recipe_s(self) -> float:
        """Seconds that the paper's 10,000 steps take at this speed."""
        return RECIPE_TOKENS / self.tokens_per_s


@dataclass(frozen=True)
class CapacityCheck:
    """Memory or disk space that a part of the full recipe needs, and the free space.

    Attributes
    ----------
    what, where : str
    needed_bytes : int
    free_bytes : int or None
        None if unknown.
    """

    what: str
    where: str
    needed_bytes: int
    free_bytes: int | None

    @property
    def fits(self) -> bool:
        """Whether the free space suffices; true if it is unknown."""
        return self.free_bytes is None or self.needed_bytes <= self.free_bytes


def _is_small(model: str) -> bool:
    return PRESETS[model].layers <= PRESETS["logo"].layers


def attention_of(model: str, device: torch.device, precision: str) -> str:
    """Describe the attention that pretraining uses."""
    if packs_sequences(device, precision):
        version = 3 if has_flash_attention_3(device, PRESETS[model].dropout) else 2
        return f"FlashAttention {version} over packed sequences"
    if device.type == "cpu" and PRESETS[model].dropout > 0:
        return "explicit, with dropout from 16 random bits per element"
    return "torch's fused attention over padded batches"


def measure(model: str, processes: Processes, seconds: float) -> Probe:
    """Time pretraining steps of a preset on the bundled human sequence.

    Parameters
    ----------
    model : str
        One of `PRESETS`.
    processes : Processes
        A single process.
    seconds : float
        Approximate duration of the measurement, without start-up.
    """
    device = processes.device
    small_steps = device.type == "cpu" and not _is_small(model)
    with tempfile.TemporaryDirectory(prefix="cmgems-doctor-") as scratch:
        corpus = Path(scratch) / "corpus"
        prepare_genome([bundled_fasta()], corpus)
        options = PretrainingOptions(strategy="random", model=model, eval_sequences=1)
        if small_steps:
            options = replace(options, max_batch_tokens=CPU_TOKENS_OF_LARGE)
        run = build_pretraining_run(corpus, None, Path(scratch) / "model", options, processes)
        measured = run.probe(seconds)
    return Probe(
        model=model,
        device=str(device),
        precision=run.precision,
        attention=attention_of(model, device, run.precision),
        parameters=run.parameters,
        max_batch_tokens=run.options.max_batch_tokens,
        tokens_per_s=measured["tokens_per_s"],
        memory_bytes=round(measured["memory_bytes"]),
        flop_per_s=measured["flop_per_s"],
        matrix_flop_per_s=measured["matrix_flop_per_s"],
        nominal_flop_per_s=nominal_peak(device, run.precision),
    )


def capacity_checks(probe: Probe, device: Device, cpu: Device) -> list[CapacityCheck]:
    """Compare the needs of the full recipe with the free space; existing files of the workspace need none.

    Parameters
    ----------
    probe : Probe
    device, cpu : Device
        The device of the probe, and the CPU; both as before the probe.
    """
    fasta = workspace.downloads_folder() / "hg38.fa.gz"
    disk = 0 if fasta.exists() else FASTA_BYTES
    disk += 0 if is_finished(workspace.corpus_folder()) else CORPUS_BYTES
    disk += probe.parameters * (MODEL_BYTES_PER_PARAMETER + CHECKPOINT_BYTES_PER_PARAMETER)
    memory = "memory" if device.name == "cpu" else f"memory of {device.name}"
    step = f"pretrain {probe.model}, {probe.max_batch_tokens:,} tokens per micro-batch"
    return [
        CapacityCheck(
            "genome, corpus, one model, its checkpoints", DISK, disk, free_disk(workspace.workspace())
        ),
        CapacityCheck("prepare-genome of GRCh38", "memory", PREPARING_BYTES, cpu.free_bytes),
        CapacityCheck(step, memory, probe.memory_bytes, device.free_bytes),
    ]


@dataclass(frozen=True)
class Diagnosis:
    """The state of the machine, from which problems and advice follow.

    Attributes
    ----------
    versions : list of Version
    devices : list of Device
        The CPU first.
    cores : float
        Cores that this process may use.
    threads : int
        Threads that torch uses.
    busy_cores : float
        Load before the probe.
    probe : Probe
    capacity_checks : list of CapacityCheck
    may_write : bool
        Whether the workspace is writable.
    nvidia_driver : bool
    torch_cuda : str or None
        The CUDA release torch was built for; None if it was built without CUDA.
    offline : str or None
        The setting that forbids the network.
    """

    versions: list[Version]
    devices: list[Device]
    cores: float
    threads: int
    busy_cores: float
    probe: Probe
    capacity_checks: list[CapacityCheck]
    may_write: bool
    nvidia_driver: bool
    torch_cuda: str | None
    offline: str | None

    @property
    def gpus(self) -> list[Device]:
        """The CUDA devices."""
        return [device for device in self.devices if device.name != "cpu"]


def diagnose(device: str = "auto", model: str | None = None, offline: str | None = None) -> Diagnosis:
    """Inspect the machine and time a model on it.

    Parameters
    ----------
    device : str
        As for `start_processes`.
    model : str, optional
        The preset to time. Default: dnabert on CUDA, logo on a CPU.
    offline : str, optional
        The setting that forbids the network.

    Raises
    ------
    UsageError
        If the device is unknown or not available.
    """
    busy = busy_cores()
    processes = start_processes(device)
    all_devices = devices()
    probe = measure(
        model or ("dnabert" if processes.device.type == "cuda" else "logo"), processes, PROBE_SECONDS
    )
    probed = next(one for one in all_devices if one.name == probe.device)
    return Diagnosis(
        versions=versions(),
        devices=all_devices,
        cores=cores(),
        threads=torch.get_num_threads(),
        busy_cores=busy,
        probe=probe,
        capacity_checks=capacity_checks(probe, probed, all_devices[0]),
        may_write=may_write(workspace.workspace()),
        nvidia_driver=has_nvidia_driver(),
        torch_cuda=torch.version.cuda,
        offline=offline,
    )


# ours: for longer runs the advice mentions alternatives.
LONG_RUN_S = 3 * 24 * 3600.0
# ours: with a larger fraction of the cores busy, the probe measures the load rather than the machine.
BUSY_FRACTION = 0.25


def problems(diagnosis: Diagnosis) -> list[str]:
    """Return the problems that prevent the recipe from running, each with its remedy."""
    sentences = []
    for version in diagnosis.versions:
        if not version.fits:
            installed = f"{version.name} {version.installed}" if version.installed else f"no {version.name}"
            remedy = f"pip install '{version.name}{version.needed}'"
            if version.name == "python":
                remedy = f"install Python {version.needed}"
            sentences.append(f"{installed} is installed; needed {version.needed or 'any'}: {remedy}")
    if not diagnosis.may_write:
        sentences.append(f"{workspace.workspace()} is not writable: set CMGEMS_WORKSPACE to another folder")
    for check in diagnosis.capacity_checks:
        if not check.fits:
            assert check.free_bytes is not None
            remedy = "give `cmgems pretrain --max-batch-tokens` a lower number, or close other programs"
            if check.where == DISK:
                remedy = "set CMGEMS_WORKSPACE to a larger disk"
            needed, free = f"{check.needed_bytes / 1e9:.1f} GB", f"{check.free_bytes / 1e9:.1f} GB"
            sentences.append(f"{check.where}: {check.what} needs {needed}, {free} are free: {remedy}")
    return sentences


def advice(diagnosis: Diagnosis) -> list[str]:
    """Return what would speed up the recipe, and what to be aware of."""
    probe, threads, cores = diagnosis.probe, diagnosis.threads, diagnosis.cores
    gpus, whole_cores = diagnosis.gpus, max(1, int(cores))
    driver_unused = not gpus and diagnosis.nvidia_driver
    smaller = "" if _is_small(probe.model) else " `cmgems pretrain --model logo` takes far less time;"
    possible = [
        (
            driver_unused and diagnosis.torch_cuda is None,
            "there is an NVIDIA driver, but this torch was built without CUDA: install one with it (pip install"
            " torch)",
        ),
        (
            driver_unused and diagnosis.torch_cuda is not None,
            "there is an NVIDIA driver, but torch finds no GPU: check CUDA_VISIBLE_DEVICES and nvidia-smi",
        ),
        (
            len(gpus) > 1,
            f"{len(gpus)} GPUs: `torchrun --nproc-per-node {len(gpus)} -m cmgems_cli pretrain …` uses all of them",
        ),
        *(
            (not device.bf16, f"{device.model} has no bf16: training runs in fp32, which is slower")
            for device in gpus or diagnosis.devices[:1]
        ),
        (
            threads < whole_cores and not gpus,
            f"torch uses {threads} of {whole_cores} cores: unset OMP_NUM_THREADS, or raise it",
        ),
        (
            threads > max(1.0, cores),
            f"torch starts {threads} threads, but only {cores:g} cores may be used: set OMP_NUM_THREADS={whole_cores}",
        ),
        (
            diagnosis.busy_cores > BUSY_FRACTION * cores,
            f"other programs kept {diagnosis.busy_cores:.1f} of {cores:g} cores busy: without them it would be faster",
        ),
        (
            probe.recipe_s > LONG_RUN_S,
            f"{STEPS:,} steps of {probe.model} take {probe.recipe_s / 86400:,.0f} days here:{smaller} `cmgems pretrain"
            " --steps 1000` is the paper's short recipe",
        ),
        (bool(diagnosis.offline), f"{diagnosis.offline}: `cmgems fetch` does not use the network"),
    ]
    return [sentence for applies, sentence in possible if applies]
