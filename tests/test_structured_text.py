"""The reader of JSON and TOML: every malformed, bottomless or oversized text is one ValueError."""

from collections.abc import Callable
from pathlib import Path

import pytest

from cmgems_cli import structured_text
from cmgems_cli.artifacts import MANIFEST, read_manifest
from cmgems_cli.errors import InputError
from cmgems_cli.fetching.sources import RECORD, read_record
from cmgems_cli.modeling.folder import read_config, vocabulary_k
from cmgems_cli.staging import MARKER, read_marker
from cmgems_cli.structured_text import parse_json, read_json, read_toml
from cmgems_cli.training.checkpoints import newest_checkpoint
from cmgems_cli.training.metrics_log import read_metrics
from tests.command_line import CommandLine

HOSTILE = {
    "nested lists": b"[" * 100_000,
    "nested and closed": b"[" * 200 + b"]" * 200,
    "nested objects": b'{"a":' * 5_000 + b"1" + b"}" * 5_000,
    "NaN": b'{"a": NaN}',
    "infinity": b'{"a": [-Infinity]}',
    "beyond float": b'{"a": 1e999}',
    "5,000 digits": b'{"a": ' + b"9" * 5_000 + b"}",
    "not UTF-8": b'{"a": "\xff\xfe"}',
    "empty": b"",
    "cut": b'{"a": ',
    "zeros": bytes(100),
}


@pytest.mark.parametrize("content", HOSTILE.values(), ids=HOSTILE)
def test_c3_hostile_json_is_a_value_error(content: bytes, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"^[^\n]+$"):
        parse_json(content)
    (tmp_path / "x.json").write_bytes(content)
    with pytest.raises(ValueError, match=r"^[^\n]+$"):
        read_json(tmp_path / "x.json")


def test_json_of_the_usual_kinds_is_read(tmp_path: Path) -> None:
    (tmp_path / "x.json").write_bytes('\ufeff{"a": [1, 2.5, null, true, "é"], "b": {}}\r\n'.encode())
    assert read_json(tmp_path / "x.json") == {"a": [1, 2.5, None, True, "é"], "b": {}}


def test_c3_a_file_beyond_the_limit_is_not_parsed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "x").write_bytes(b"1" * ((1 << 20) + 1))
    monkeypatch.setattr(structured_text, "JSON_BYTES", 1 << 20)
    for read in (read_json, read_toml):
        with pytest.raises(ValueError, match="more than 1 MiB"):
            read(tmp_path / "x")


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"a = " + b"[" * 100_000, "levels deep"),
        (b"a = " + b"{a=" * 50_000, "levels deep"),
        (b"a" + b".a" * 150 + b" = 1", "levels deep"),
        (b"a" + b".a" * 100_000 + b" = 1", "dots"),
        (b"a = " + b"9" * 5_000, "digits"),
        (b"a = 0x" + b"f" * 5_000, "64 bits"),
        (b"a = [{ b = nan }]", "finite"),
        (b"a = -inf", "finite"),
        (b"a = '\xff'", "it is not UTF-8: invalid start byte at byte 5"),
        (b"a = ", "Invalid value"),
    ],
)
def test_c3_hostile_toml_is_a_value_error(tmp_path: Path, content: bytes, said: str) -> None:
    (tmp_path / "x.toml").write_bytes(content)
    with pytest.raises(ValueError, match=said):
        read_toml(tmp_path / "x.toml")


def test_f16_toml_with_a_byte_order_mark_is_read(tmp_path: Path, cmgems: CommandLine) -> None:
    (tmp_path / "x.toml").write_bytes(b"\xef\xbb\xbfquiet = true\r\n[info]\r\nverify = true\r\n")
    assert read_toml(tmp_path / "x.toml") == {"quiet": True, "info": {"verify": True}}
    assert (
        "nowhere does not exist" in cmgems("info", "nowhere", "--config", tmp_path / "x.toml", code=3).error
    )


@pytest.mark.parametrize("content", HOSTILE.values(), ids=HOSTILE)
def test_c3_every_reader_of_json_refuses_in_one_line(tmp_path: Path, content: bytes) -> None:
    def put(name: str) -> Path:
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
        return path.parent

    readers: list[Callable[[], object]] = [
        lambda: read_manifest(put(f"artifact/{MANIFEST}")),
        lambda: read_config(put("model/config.json")),
        lambda: vocabulary_k(put("tokens/tokenizer.json"), 5 + 4**6),
        lambda: newest_checkpoint(put("run/checkpoints/step_000004/state.json").parents[1]),
    ]
    if content:  # a run that was stopped before its first step
        readers.append(lambda: read_metrics(put("metrics/metrics.jsonl") / "metrics.jsonl"))
    for read in readers:
        with pytest.raises(InputError, match=r"^[^\n]+$"):
            read()
    assert read_marker(put(f"marked/{MARKER}")) is None
    assert read_record(put(f"download/{RECORD}")) is None


@pytest.mark.parametrize("content", HOSTILE.values(), ids=HOSTILE)
def test_c3_a_hostile_manifest_does_not_stop_the_overview(
    cmgems: CommandLine, workspace: Path, content: bytes
) -> None:
    (workspace / "corpus").mkdir(parents=True)
    (workspace / "corpus" / MANIFEST).write_bytes(content)
    assert "not a readable manifest" in cmgems().stdout
    for command in (["info", workspace / "corpus"], ["build-pmi"], ["pretrain"]):
        assert "not a readable manifest" in cmgems(*command, code=3).error
