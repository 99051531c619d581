"""The artifact layer: manifest last, digests, checks on every read, nothing lost or half-written."""

import json
import os
from pathlib import Path
from typing import Any

import pytest

from cmgems_cli import artifacts
from cmgems_cli.artifacts import finish_artifact, read_manifest
from cmgems_cli.errors import InputError


def make(folder: Path, *, content: bytes = b"abc", kind: str = "pmi", **changed: Any) -> artifacts.Manifest:
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "kmers.csv").write_bytes(content)
    fields: dict[str, Any] = {"params": {"k": 6}, "inputs": {"corpus": "ff"}, "stats": {"ranked": 1}}
    environment = {"elapsed_s": 1.5}
    return finish_artifact(
        folder, kind, files=["kmers.csv"], environment=environment, **{**fields, **changed}
    )


def test_a_finished_artifact_reads_back_as_written(tmp_path: Path) -> None:
    written = make(tmp_path / "pmi")
    assert read_manifest(tmp_path / "pmi", "pmi", verify=True) == written
    assert written.files["kmers.csv"] == {
        "bytes": 3,
        "sha256": "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad",
    }


def test_the_digest_is_the_sha256_of_the_canonical_json_of_what_precedes(tmp_path: Path) -> None:
    import hashlib

    make(tmp_path / "pmi")
    raw = json.loads((tmp_path / "pmi" / "manifest.json").read_text())
    assert list(raw) == ["kind", "schema", "params", "inputs", "files", "stats", "digest", "environment"]
    preceding = {name: raw[name] for name in ("kind", "schema", "params", "inputs", "files", "stats")}
    text = json.dumps(preceding, sort_keys=True, separators=(",", ":"))
    assert raw["digest"] == hashlib.sha256(text.encode()).hexdigest()


def test_the_digest_knows_content_but_neither_place_nor_environment(tmp_path: Path) -> None:
    first = make(tmp_path / "a")
    assert make(tmp_path / "b" / "elsewhere").digest == first.digest
    assert make(tmp_path / "c", content=b"abd").digest != first.digest
    assert make(tmp_path / "d", params={"k": 5}).digest != first.digest
    assert make(tmp_path / "e", stats={"ranked": 2}).digest != first.digest


def damage_missing(folder: Path) -> None:
    (folder / "kmers.csv").unlink()


def damage_size(folder: Path) -> None:
    (folder / "kmers.csv").write_bytes(b"abcd")


def damage_content(folder: Path) -> None:
    (folder / "kmers.csv").write_bytes(b"xyz")


def damage_schema_new(folder: Path) -> None:
    edit(folder, schema=99)


def damage_schema_old(folder: Path) -> None:
    edit(folder, schema=0)


def damage_json(folder: Path) -> None:
    (folder / "manifest.json").write_text("{")


def damage_fields(folder: Path) -> None:
    (folder / "manifest.json").write_text("{}")


def damage_kind(folder: Path) -> None:
    edit(folder, kind="novel")


def damage_stats(folder: Path) -> None:
    edit(folder, stats={"ranked": 4096})


def damage_unfinished(folder: Path) -> None:
    (folder / "manifest.json").unlink()


def edit(folder: Path, **changed: Any) -> None:
    path = folder / "manifest.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), **changed}))


@pytest.mark.parametrize(
    ("damage", "sentence"),
    [
        (damage_missing, "is missing"),
        (damage_size, "has 4 bytes, its manifest says 3"),
        (damage_content, "sha256"),
        (damage_schema_new, "too new"),
        (damage_schema_old, "too old"),
        (damage_json, "not a readable manifest"),
        (damage_fields, "not a readable manifest"),
        (damage_kind, "does not know"),
        (damage_stats, "digest differs"),
        (damage_unfinished, "unfinished"),
    ],
)
def test_each_damage_has_its_own_sentence(tmp_path: Path, damage: Any, sentence: str) -> None:
    make(tmp_path / "pmi")
    damage(tmp_path / "pmi")
    with pytest.raises(InputError, match=sentence):
        read_manifest(tmp_path / "pmi", "pmi", verify=True)


def test_another_kind_says_how_to_make_the_right_one(tmp_path: Path) -> None:
    make(tmp_path / "pmi")
    with pytest.raises(
        InputError, match=r"is a pmi artifact; needed a corpus artifact.*cmgems prepare-genome"
    ):
        read_manifest(tmp_path / "pmi", "corpus")


def test_a_missing_folder_and_a_file_in_its_place(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="does not exist"):
        read_manifest(tmp_path / "nothing", "corpus")
    (tmp_path / "file").write_text("x")
    with pytest.raises(InputError, match="is a file"):
        read_manifest(tmp_path / "file", "corpus")


@pytest.mark.parametrize(
    "changed",
    [
        {"kind": ["pmi"]},
        {"schema": "1"},
        {"files": []},
        {"files": {"kmers.csv": 3}},
        {"files": {"kmers.csv": {"bytes": "3", "sha256": ""}}},
        {"files": {"../kmers.csv": {"bytes": 3, "sha256": ""}}},
        {"files": {"/etc/passwd": {"bytes": 3, "sha256": ""}}},
        {"params": None},
        {"environment": 1},
        {"digest": None},
    ],
    ids=str,
)
def test_a_manifest_of_another_form_is_refused(tmp_path: Path, changed: dict[str, Any]) -> None:
    make(tmp_path / "pmi")
    edit(tmp_path / "pmi", **changed)
    with pytest.raises(InputError, match="is not a readable manifest"):
        read_manifest(tmp_path / "pmi")


@pytest.mark.parametrize(
    ("field", "values"),
    [
        ("params", {"k": "x"}),
        ("params", {"max_tokens": [1]}),
        ("params", {"steps": True}),
        ("params", {"learning_rate": 10**30}),
        ("stats", {"valid_sequences": 1.5}),
        ("inputs", {"corpus": 2}),
        ("environment", {"precision": ["fp32"]}),
        ("environment", {"versions": 3}),
        ("environment", {"versions": None}),
        ("environment", {"command": [["cmgems"]]}),
        ("environment", {"elapsed_s": []}),
    ],
)
def test_c3_a_manifest_of_right_digest_with_other_forms_is_refused(
    tmp_path: Path, field: str, values: dict[str, Any]
) -> None:
    fields = {"params": {}, "inputs": {}, "stats": {}, "environment": {}} | {field: values}
    (tmp_path / "pmi").mkdir()
    artifacts.finish_artifact(tmp_path / "pmi", "pmi", files=[], **fields)
    with pytest.raises(InputError, match="is not a readable manifest"):
        read_manifest(tmp_path / "pmi")


def test_s6_a_changed_environment_is_noticed(tmp_path: Path) -> None:
    (tmp_path / "pmi").mkdir()
    environment = {"device": "cpu", "elapsed_s": 2.5}
    artifacts.finish_artifact(
        tmp_path / "pmi", "pmi", params={}, inputs={}, stats={}, files=[], environment=environment
    )
    assert read_manifest(tmp_path / "pmi").environment == environment
    sealed = json.loads((tmp_path / "pmi" / "manifest.json").read_text())["environment"]
    edit(tmp_path / "pmi", environment={**sealed, "elapsed_s": 2.4})
    with pytest.raises(InputError, match="the sha256 of environment differs"):
        read_manifest(tmp_path / "pmi")
    edit(tmp_path / "pmi", environment=environment)
    assert read_manifest(tmp_path / "pmi").environment == environment


def test_c3_a_missing_parameter_is_an_input_error(tmp_path: Path) -> None:
    make(tmp_path / "pmi")
    manifest = read_manifest(tmp_path / "pmi")
    with pytest.raises(InputError, match=r"manifest\.json has no stats 'sequences'"):
        manifest.stats["sequences"]


def test_a_name_too_long_for_any_file_is_refused(tmp_path: Path) -> None:
    make(tmp_path / "pmi")
    edit(tmp_path / "pmi", files={"x" * 300: {"bytes": 1, "sha256": ""}})
    with pytest.raises(InputError, match="too long for the name of a file"):
        read_manifest(tmp_path / "pmi")


def test_an_edited_manifest_is_noticed_without_hashing_the_files(tmp_path: Path) -> None:
    make(tmp_path / "pmi")
    edit(tmp_path / "pmi", params={"k": 5})
    with pytest.raises(InputError, match="digest differs"):
        read_manifest(tmp_path / "pmi")


def test_names_that_are_no_utf_8_are_kept_as_python_has_them(tmp_path: Path) -> None:
    name = os.fsdecode(b"caf\xe9.fa")
    make(tmp_path / "pmi")
    manifest = finish_artifact(
        tmp_path / "pmi",
        "pmi",
        params={"from": name},
        inputs={},
        stats={},
        files=[],
        environment={"of": [name]},
    )
    found = read_manifest(tmp_path / "pmi", verify=True)
    assert found == manifest
    assert found.params == {"from": name}
    assert found.environment == {"of": [name]}


def test_canonical_json_has_no_nan() -> None:
    with pytest.raises(ValueError, match="Out of range"):
        artifacts.canonical_json({"loss": float("nan")})


def test_the_specification_names_every_field_and_kind() -> None:
    text = (Path(__file__).resolve().parents[1] / "docs" / "artifacts.md").read_text(encoding="utf-8")
    for name in (*artifacts.DIGESTED, "digest", "environment", *artifacts.SCHEMA):
        assert f"`{name}`" in text, name
