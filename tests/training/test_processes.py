"""Which device and precision a run takes, and a run of one process."""

import pytest
import torch

from cmgems_cli.errors import UsageError
from cmgems_cli.training import processes
from cmgems_cli.training.processes import Processes, resolve_device, resolve_precision, start_processes

CPU, CARD = torch.device("cpu"), torch.device("cuda", 0)


@pytest.fixture
def two_cards(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)


@pytest.mark.parametrize(("device", "resolved"), [("auto", "cuda"), ("cpu", "cpu"), ("cuda:1", "cuda:1")])
def test_a_device_that_is_there_is_taken(two_cards: None, device: str, resolved: str) -> None:
    assert resolve_device(device) == torch.device(resolved)


@pytest.mark.parametrize("device", ["", "gpu", "cpu:0", "cuda:x", "cuda:-1", "cuda:2", "mps"])
def test_a_device_that_is_not_there_is_refused(two_cards: None, device: str) -> None:
    with pytest.raises(UsageError, match="device"):
        resolve_device(device)


def test_without_a_card_the_cpu_is_taken_and_cuda_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert resolve_device("auto") == CPU
    with pytest.raises(UsageError, match="finds no CUDA device; use `device=cpu`"):
        resolve_device("cuda")


def test_a_numbered_card_is_refused_under_torchrun(two_cards: None, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WORLD_SIZE", "2")
    monkeypatch.setenv("RANK", "1")
    with pytest.raises(UsageError, match="under torchrun: give `device=cuda`"):
        start_processes("cuda:1")


@pytest.mark.parametrize(
    ("asked", "device", "has_bf16", "resolved"),
    [
        ("auto", CPU, True, "bf16"),
        ("auto", CPU, False, "fp32"),
        ("bf16", CPU, False, "bf16"),
        ("fp32", CPU, True, "fp32"),
        ("auto", CARD, True, "bf16"),
        ("auto", CARD, False, "fp32"),
        ("fp32", CARD, True, "fp32"),
    ],
)
def test_precision_is_that_of_the_hardware_unless_asked_for(
    monkeypatch: pytest.MonkeyPatch, asked: str, device: torch.device, has_bf16: bool, resolved: str
) -> None:
    monkeypatch.setattr(processes, "_cpu_has_bf16", lambda: has_bf16)
    monkeypatch.setattr(torch.cuda, "is_bf16_supported", lambda including_emulation: has_bf16)
    assert resolve_precision(asked, device) == resolved


def test_bf16_on_a_card_without_it_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_bf16_supported", lambda including_emulation: False)
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda device: "NVIDIA Old")
    with pytest.raises(UsageError, match="NVIDIA Old has no bf16; use fp32"):
        resolve_precision("bf16", CARD)


def test_a_process_alone_is_the_main_one_and_sums_to_a_copy() -> None:
    alone = start_processes("cpu")
    assert (alone.rank, alone.world_size, alone.is_main) == (0, 1, True)
    assert not Processes(1, 2, CPU).is_main
    values = torch.tensor([1, 2])
    total = alone.all_reduce_sum(values)
    values += 1
    assert total.tolist() == [1, 2]
    assert alone.broadcast_from_main(0.5) == 0.5
