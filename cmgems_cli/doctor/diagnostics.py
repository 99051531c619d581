"""What this machine can do with the full recipe: how fast, whether there is room, and what to change."""

from __future__ import annotations

import tempfile
from dataclasses import dataclass
from pathlib import Path

import torch

from cmgems_cli import workspace
from cmgems_cli.artifacts import is_finished
from cmgems_cli.genome.bundled import bundled_fasta
from cmgems_cli.genome.preparation import prepare_genome
from cmgems_cli.modeling.encoder import packs_sequences
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
from cmgems_cli.training.pretrain_options import pretraining_options
from cmgems_cli.training.processes import Processes, start_processes

# ours: what a person waits for.
PROBE_SECONDS = 2.0
# ours: two sequences of 512. A larger micro-batch of dnabert alone takes longer than that on most CPUs.
CPU_TOKENS_OF_LARGE = 1_024

# paper, section 5.3: 10,000 steps; DNABERT's script: 250 sequences each. Half of them are 512 tokens with [CLS]
# and [SEP], the others half as long on average (method, section 2).
STEPS, SEQUENCES, MEAN_TOKENS = 10_000, 250, 385.75
RECIPE_TOKENS = STEPS * SEQUENCES * MEAN_TOKENS

# GRCh38's chromosomes 1–22, X and Y: 3.09 Gbp, 0.15 of them N.
GENOME_BASES = 2_940_000_000
# cmgems_cli/fetching/sources.py: UCSC's hg38.fa.gz.
FASTA_BYTES = 983_659_424
# docs/artifacts.md: four bases a byte; 13 bytes a sequence of on average 389 bases.
CORPUS_BYTES = round(GENOME_BASES * (1 / 4 + 13 / 388.75))
# docs/log.md: prepare-genome at 3.1 Gbp, peak.
PREPARING_BYTES = 433_000_000
# Float32 weights; in a checkpoint AdamW's two moments too, and the old one goes when the new one is whole.
MODEL_BYTES_A_PARAMETER, CHECKPOINTS_BYTES_A_PARAMETER = 4, 2 * 3 * 4

DISK = "disk of the workspace"


@dataclass(frozen=True)
class Probe:
    """How fast pretraining runs here, measured.

    Attributes
    ----------
    model : str
        A preset.
    device, precision, attention : str
        What `auto` chose.
    parameters : int
    max_batch_tokens : int
        Of the micro-batches timed.
    tokens_per_s : float
        Real tokens, special tokens included, padding not.
    memory_bytes : int
        Peak of this process; on CUDA of the card.
    """

    model: str
    device: str
    precision: str
    attention: str
    parameters: int
    max_batch_tokens: int
    tokens_per_s: float
    memory_bytes: int

    @property
    def recipe_s(self) -> float:
        """Seconds of the paper's 10,000 steps at this speed."""
        return RECIPE_TOKENS / self.tokens_per_s


@dataclass(frozen=True)
class Room:
    """Space that a part of the full recipe takes, and what there is.

    Attributes
    ----------
    what, where : str
    needed_bytes : int
    free_bytes : int or None
        None where the system does not tell.
    """

    what: str
    where: str
    needed_bytes: int
    free_bytes: int | None

    @property
    def enough(self) -> bool:
        """Whether there is enough, as far as one can tell."""
        return self.free_bytes is None or self.needed_bytes <= self.free_bytes


def _is_small(model: str) -> bool:
    return PRESETS[model].layers <= PRESETS["logo"].layers


def attention_of(model: str, device: torch.device, precision: str) -> str:
    """Return which attention pretraining takes, in words."""
    if packs_sequences(device, precision):
        return "FlashAttention over packed sequences"
    if device.type == "cpu" and PRESETS[model].dropout > 0:
        return "explicit, with dropout drawn 16 bits an element"
    return "torch's fused attention over padded batches"


def measure(model: str, processes: Processes, seconds: float) -> Probe:
    """Time pretraining steps of a preset on the bundled human sequence.

    Parameters
    ----------
    model : str
        One of `PRESETS`.
    processes : Processes
        This process alone.
    seconds : float
        About how long to measure, start-up not counted.
    """
    device = processes.device
    small_steps = device.type == "cpu" and not _is_small(model)
    with tempfile.TemporaryDirectory(prefix="cmgems-doctor-") as scratch:
        corpus = Path(scratch) / "corpus"
        prepare_genome([bundled_fasta()], corpus)
        options = pretraining_options(
            device_type=device.type,
            strategy="random",
            model=model,
            eval_sequences=1,
            max_batch_tokens=CPU_TOKENS_OF_LARGE if small_steps else None,
        )
        run = build_pretraining_run(corpus, None, Path(scratch) / "model", options, processes)
        found = run.probe(seconds)
    return Probe(
        model=model,
        device=str(device),
        precision=run.precision,
        attention=attention_of(model, device, run.precision),
        parameters=run.parameters,
        max_batch_tokens=options.max_batch_tokens,
        tokens_per_s=found["tokens_per_s"],
        memory_bytes=round(found["memory_bytes"]),
    )


def rooms(probe: Probe, device: Device, cpu: Device) -> list[Room]:
    """Return what the full recipe takes, beside what is free; what the workspace already has takes nothing.

    Parameters
    ----------
    probe : Probe
    device, cpu : Device
        Where the probe ran, and the CPU; as they were before it.
    """
    fasta = workspace.downloads_folder() / "hg38.fa.gz"
    disk = 0 if fasta.exists() else FASTA_BYTES
    disk += 0 if is_finished(workspace.corpus_folder()) else CORPUS_BYTES
    disk += probe.parameters * (MODEL_BYTES_A_PARAMETER + CHECKPOINTS_BYTES_A_PARAMETER)
    memory = "memory" if device.name == "cpu" else f"memory of {device.name}"
    step = f"pretrain {probe.model}, {probe.max_batch_tokens:,} tokens a micro-batch"
    return [
        Room("genome, corpus, one model, its checkpoints", DISK, disk, free_disk(workspace.workspace())),
        Room("prepare-genome of GRCh38", "memory", PREPARING_BYTES, cpu.free_bytes),
        Room(step, memory, probe.memory_bytes, device.free_bytes),
    ]


@dataclass(frozen=True)
class Findings:
    """All that advice depends on.

    Attributes
    ----------
    versions : list of Version
    devices : list of Device
        The CPU first.
    cores : float
        That this process may use.
    threads : int
        That torch uses.
    busy_cores : float
        Load before the probe.
    probe : Probe
    rooms : list of Room
    may_write : bool
        In the workspace.
    nvidia_driver : bool
    torch_cuda : str or None
        The CUDA release torch was built for; None: it was built without.
    offline : str or None
        The setting that forbids the network.
    """

    versions: list[Version]
    devices: list[Device]
    cores: float
    threads: int
    busy_cores: float
    probe: Probe
    rooms: list[Room]
    may_write: bool
    nvidia_driver: bool
    torch_cuda: str | None
    offline: str | None

    @property
    def cards(self) -> list[Device]:
        """The CUDA cards."""
        return [device for device in self.devices if device.name != "cpu"]


def examine(device: str = "auto", model: str | None = None, offline: str | None = None) -> Findings:
    """Look at the machine and time a model on it.

    Parameters
    ----------
    device : str
        As `start_processes`.
    model : str, optional
        Which to time: dnabert on CUDA and logo on a CPU when left out.
    offline : str, optional
        The setting that forbids the network.

    Raises
    ------
    UsageError
        If the device is unknown or absent.
    """
    busy = busy_cores()
    processes = start_processes(device)
    there = devices()
    probe = measure(
        model or ("dnabert" if processes.device.type == "cuda" else "logo"), processes, PROBE_SECONDS
    )
    used = next(one for one in there if one.name == probe.device)
    return Findings(
        versions=versions(),
        devices=there,
        cores=cores(),
        threads=torch.get_num_threads(),
        busy_cores=busy,
        probe=probe,
        rooms=rooms(probe, used, there[0]),
        may_write=may_write(workspace.workspace()),
        nvidia_driver=has_nvidia_driver(),
        torch_cuda=torch.version.cuda,
        offline=offline,
    )


# ours: a run of more days than this deserves the remark that there are other ways.
LONG_RUN_S = 3 * 24 * 3600.0
# ours: with less than this share of its cores to itself a machine is not measured, its load is.
BUSY_SHARE = 0.25


def faults(found: Findings) -> list[str]:
    """Return what keeps the recipe from running, each with its remedy."""
    listed = []
    for version in found.versions:
        if not version.fits:
            have = f"{version.name} {version.found}" if version.found else f"no {version.name}"
            remedy = (
                f"install Python {version.needed}"
                if version.name == "python"
                else f"pip install '{version.name}{version.needed}'"
            )
            listed.append(f"{have} is installed, needed {version.needed or 'any'}: {remedy}")
    if not found.may_write:
        listed.append(
            f"{workspace.workspace()} may not be written: set CMGEMS_WORKSPACE to a folder of yours"
        )
    for room in found.rooms:
        if not room.enough:
            assert room.free_bytes is not None
            remedy = (
                "set CMGEMS_WORKSPACE to a larger disk"
                if room.where == DISK
                else "lower --max-batch-tokens, or end other programs"
            )
            listed.append(
                f"{room.where}: {room.what} takes {_gb(room.needed_bytes)}, {_gb(room.free_bytes)} are free: {remedy}"
            )
    return listed


def advice(found: Findings) -> list[str]:
    """Return what would make it faster, or may surprise."""
    listed = []
    if not found.cards and found.nvidia_driver:
        listed.append(
            "there is an NVIDIA driver, but this torch was built without CUDA: install one with it (pip install torch)"
            if found.torch_cuda is None
            else "there is an NVIDIA driver, but torch sees no card: look at CUDA_VISIBLE_DEVICES and nvidia-smi"
        )
    if len(found.cards) > 1:
        listed.append(
            f"{len(found.cards)} cards: torchrun --nproc-per-node {len(found.cards)} -m cmgems_cli pretrain … uses all"
        )
    used = found.cards or found.devices[:1]
    for device in used:
        if not device.bf16:
            listed.append(f"{device.model} has no bf16: training runs in fp32, which is slower")
    whole_cores = max(1, int(found.cores))
    if found.threads < whole_cores and not found.cards:
        listed.append(
            f"torch uses {found.threads} of {whole_cores} cores: unset OMP_NUM_THREADS, or raise it"
        )
    if found.threads > max(1.0, found.cores):
        listed.append(
            f"torch starts {found.threads} threads, but only {found.cores:g} cores may be used: set"
            f" OMP_NUM_THREADS={whole_cores}"
        )
    if found.busy_cores > BUSY_SHARE * found.cores:
        listed.append(
            f"other programs kept {found.busy_cores:.1f} of {found.cores:g} cores busy: alone it would be faster"
        )
    if found.probe.recipe_s > LONG_RUN_S:
        smaller = "" if _is_small(found.probe.model) else " --model logo is far less work;"
        listed.append(
            f"{STEPS:,} steps of {found.probe.model} take {found.probe.recipe_s / 86400:,.0f} days here:{smaller}"
            " --steps 1000 is the paper's short recipe"
        )
    if found.offline:
        listed.append(f"{found.offline}: `cmgems fetch` stays off the network")
    return listed


def _gb(n_bytes: int) -> str:
    return f"{n_bytes / 1e9:.1f} GB"
