"""Whole runs of the tiny model: what they write, how they resume, switch and refuse."""

import importlib.util
import math
import random
import signal
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from cmgems_cli.artifacts import read_manifest
from cmgems_cli.errors import CmgemsError, InputError, OverwriteError, UsageError
from cmgems_cli.genome.corpus import Corpus
from cmgems_cli.genome.preparation import prepare_genome
from cmgems_cli.masking import Strategy
from cmgems_cli.modeling.encoder import compiled as compiled_part
from cmgems_cli.modeling.folder import read_config
from cmgems_cli.option_fields import recipe_fields
from cmgems_cli.pmi.ranking import KMERS_CSV
from cmgems_cli.pmi.stage import build_pmi
from cmgems_cli.pmi.tables import read_kmer_table
from cmgems_cli.training.build import build_pretraining_run
from cmgems_cli.training.metrics_log import read_metrics
from cmgems_cli.training.pretrain_options import PretrainingOptions
from cmgems_cli.training.pretrain_run import PretrainingRun, pretrain
from cmgems_cli.training.processes import start_processes
from cmgems_cli.training.run import Observer
from cmgems_cli.training.validation import perplexity, unigram_perplexity, validation_sample
from tests.command_line import CommandLine, torchrun, wait_until
from tests.training.conftest import FASTA, SHORT, StopAfter

MakeRun = Callable[..., PretrainingRun]

# Any perplexity drops by less than all of it: the curriculum switches at its second evaluation.
SWITCH_AT_ONCE = {"switch_threshold": "100%"}


def train(run: PretrainingRun, **options: Any) -> Path:
    pretrain(run, **{"resume": True, "overwrite": False, **options})
    return run.out


def test_a_finished_run_is_an_artifact_with_one_record_a_step(make_run: MakeRun) -> None:
    out = train(make_run())
    manifest = read_manifest(out, "model", verify=True)
    assert manifest.stats["steps"] == 8
    assert manifest.stats["parameters"] == 403_845
    assert set(manifest.inputs) == {"corpus", "pmi"}
    # Only if it was given.
    recipe = set(recipe_fields(PretrainingOptions())) - {"dropout"}
    assert set(manifest.params) == recipe | {"k", "validation_masks"}
    assert manifest.environment["max_batch_tokens"] == 128
    assert not (out / "checkpoints").exists()
    records = read_metrics(out / "metrics.jsonl")
    assert [record["step"] for record in records] == list(range(1, 9))
    for record in records:
        assert {"step", "loss", "lr", "masked_fraction", "strategy"} <= set(record)
        assert (
            ("valid_perplexity" in record)
            == ("valid_perplexity_active" in record)
            == (record["step"] % 2 == 0)
        )


def test_the_same_options_and_seed_give_the_same_digest_and_another_seed_another(make_run: MakeRun) -> None:
    first, again, other = (
        read_manifest(train(make_run(out, seed=seed)), "model").digest
        for out, seed in (("a", 1), ("b", 1), ("c", 2))
    )
    assert first == again != other


@pytest.mark.parametrize("stop", [3, 4, 5, 7])
@pytest.mark.parametrize("strategy", ["cm-gems", "cm-step", "random-mask"])
def test_an_interrupted_run_resumes_to_the_same_bytes(make_run: MakeRun, stop: int, strategy: str) -> None:
    # cm-gems switches at step 4: before, at and after the switch.
    options = {"strategy": strategy, **SWITCH_AT_ONCE}
    whole = train(make_run("whole", **options))
    with pytest.raises(CmgemsError, match=f"stopped after step {stop}") as stopped:
        train(make_run("parts", **options), observer=StopAfter(stop))
    assert stopped.value.exit_code == 130
    parts = train(make_run("parts", **options))
    for name in ("model.safetensors", "metrics.jsonl"):
        assert (parts / name).read_bytes() == (whole / name).read_bytes(), name
    assert read_manifest(parts).digest == read_manifest(whole).digest


def test_the_switch_acts_on_the_very_next_step(make_run: MakeRun) -> None:
    out = train(make_run(**SWITCH_AT_ONCE))
    assert read_manifest(out).stats["switched_at_step"] == 4
    strategies = [record["strategy"] for record in read_metrics(out / "metrics.jsonl")]
    assert strategies == ["genemask"] * 4 + ["global"] * 4


def test_a_curriculum_without_reason_to_switch_does_not(make_run: MakeRun) -> None:
    out = train(make_run(switch_threshold="0"))
    assert read_manifest(out).stats["switched_at_step"] is None
    assert {record["strategy"] for record in read_metrics(out / "metrics.jsonl")} == {"genemask"}


def test_the_active_perplexity_differs_only_after_the_switch(make_run: MakeRun) -> None:
    records = read_metrics(train(make_run(**SWITCH_AT_ONCE)) / "metrics.jsonl")
    evaluated = [record for record in records if "valid_perplexity" in record]
    same = [record["valid_perplexity"] == record["valid_perplexity_active"] for record in evaluated]
    # The evaluation of step 4 still measures genemask: the switch is its consequence.
    assert same == [True, True, False, False]


def test_a_switch_on_the_unigram_plateau_is_warned_about(make_run: MakeRun) -> None:
    observer = StopAfter(-1)
    train(make_run(**SWITCH_AT_ONCE), observer=observer)
    assert any("unigram baseline" in warning for warning in observer.warnings)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"steps": 3}, "needs at least 4 steps"),
        ({"switch_threshold": "often"}, "`switch_threshold` is 'often'"),
        ({"warmup_steps": 8}, "`warmup_steps=8`"),
        ({"max_batch_tokens": 20}, "`max_batch_tokens=20` is below the longest sequence"),
        ({"model": "huge"}, "huge"),
    ],
)
def test_options_that_cannot_work_are_refused(make_run: MakeRun, options: dict[str, Any], words: str) -> None:
    with pytest.raises((UsageError, InputError), match=words):
        train(make_run(**options))


def test_random_needs_no_ranks_and_says_which_validation_masks_it_used(
    make_run: MakeRun, inputs: tuple[Path, Path], tmp_path: Path
) -> None:
    with_ranks = make_run(strategy="random")
    assert with_ranks.params["validation_masks"] == "genemask"
    assert np.array_equal(with_ranks.validation.labels, make_run(strategy="global").validation.labels)
    options = PretrainingOptions(**{**SHORT, "strategy": "random"})
    without = build_pretraining_run(inputs[0], None, tmp_path / "without", options, start_processes("cpu"))
    assert without.params["validation_masks"] == "random"
    assert "pmi" not in without.inputs
    assert not np.array_equal(without.validation.labels, with_ranks.validation.labels)
    assert read_manifest(train(without)).params["validation_masks"] == "random"


@pytest.fixture(scope="module")
def rankings(inputs: tuple[Path, Path], tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """PMI folders of the corpus, of another corpus and of a table of counts."""
    folder = tmp_path_factory.mktemp("rankings")
    prepare_genome([FASTA], folder / "corpus", max_tokens=31)
    build_pmi(Corpus.open(folder / "corpus"), folder / "other", min_count=20)
    with (inputs[1] / KMERS_CSV).open() as stream:
        rows = [line.split(",") for line in stream][1:]
    (folder / "counts.csv").write_text("".join(f"{kmer},{count}\n" for _, kmer, count, *_ in rows))
    build_pmi(read_kmer_table(folder / "counts.csv"), folder / "counts", min_count=20)
    return {"own": inputs[1], "other": folder / "other", "counts": folder / "counts"}


@pytest.mark.parametrize("command", ["pretrain", "show-masks"])
@pytest.mark.parametrize(
    ("name", "said"), [("own", ""), ("other", "another corpus ("), ("counts", "a table of counts, not from")]
)
def test_s10_a_ranking_that_is_not_of_the_corpus_is_a_warning(
    cmgems: CommandLine,
    inputs: tuple[Path, Path],
    rankings: dict[str, Path],
    tmp_path: Path,
    command: str,
    name: str,
    said: str,
) -> None:
    words = ["--sequences", 4, "--show", 1]
    if command == "pretrain":
        words = [
            "--model",
            "tiny",
            "--strategy",
            "genemask",
            "--steps",
            2,
            "--global-batch",
            4,
            "--eval-every",
            2,
        ]
        words += ["--eval-sequences", 4, "--device", "cpu", "--out", tmp_path / "model"]
    stderr = cmgems(command, inputs[0], "--pmi", rankings[name], *words).stderr
    assert (f"warning: {rankings[name]} was made from {said}" in stderr) == bool(said)
    assert ("was made from" in stderr) == bool(said)


def test_a_resumed_run_with_other_options_is_refused_and_loses_nothing(make_run: MakeRun) -> None:
    with pytest.raises(CmgemsError):
        train(make_run(), observer=StopAfter(5))
    with pytest.raises(OverwriteError, match=r"was made with learning_rate = 0\.003, this command has 0\.1"):
        train(make_run(learning_rate=0.1))
    observer = StopAfter()
    out = train(make_run(), observer=observer)
    assert observer.resumed_after == [5]
    whole = train(make_run("whole"))
    assert (out / "model.safetensors").read_bytes() == (whole / "model.safetensors").read_bytes()


def test_finished_models_and_strange_folders_are_not_overwritten(make_run: MakeRun, tmp_path: Path) -> None:
    out = train(make_run())
    before = (out / "model.safetensors").read_bytes()
    assert train(make_run()) == out
    with pytest.raises(
        OverwriteError, match="was made with seed = 42, this command has 1; add `overwrite=True`"
    ):
        train(make_run(seed=1))
    assert (out / "model.safetensors").read_bytes() == before
    (out / "notes.txt").write_text("mine")
    train(make_run(seed=1), overwrite=True)
    assert (out / "notes.txt").read_text() == "mine"
    assert (out / "model.safetensors").read_bytes() != before
    (tmp_path / "thesis").mkdir()
    (tmp_path / "thesis" / "thesis.tex").write_text("years")
    for overwrite in (False, True):
        with pytest.raises(OverwriteError, match="exists and is not a model artifact"):
            train(make_run("thesis"), overwrite=overwrite)
    assert (tmp_path / "thesis" / "thesis.tex").read_text() == "years"


@pytest.mark.parametrize("damage", ["weights.safetensors", "state.json", "metrics.jsonl"])
def test_s2_s3_l6_a_damaged_newest_checkpoint_falls_back_to_the_one_before_and_says_so(
    make_run: MakeRun, damage: str
) -> None:
    whole = train(make_run("whole"))
    with pytest.raises(CmgemsError):
        train(make_run("parts"), observer=StopAfter(5))
    newest = make_run("parts").out / "checkpoints" / "step_000005" / damage
    content = bytearray(newest.read_bytes())
    content[len(content) // 2] ^= 1
    newest.write_bytes(content)
    (newest.parents[2] / "metrics.jsonl").write_text("lost")
    observer = StopAfter(-1)
    parts = train(make_run("parts"), observer=observer)
    assert any("step_000005 is damaged" in warning for warning in observer.warnings)
    for name in ("model.safetensors", "metrics.jsonl", "README.md"):
        assert (parts / name).read_bytes() == (whole / name).read_bytes(), name


def test_s8_a_run_stopped_in_its_last_step_ends_with_the_same_artifact(make_run: MakeRun) -> None:
    whole = train(make_run("whole"))
    with pytest.raises(CmgemsError, match="stopped after step 8"):
        train(make_run("parts"), observer=StopAfter(8))
    assert read_manifest(train(make_run("parts"))).digest == read_manifest(whole).digest


@pytest.mark.parametrize("lost", ["metrics.jsonl", "unfinished.json", "both"])
def test_l5_a_checkpoint_is_enough_to_resume(make_run: MakeRun, lost: str) -> None:
    with pytest.raises(CmgemsError):
        train(make_run(), observer=StopAfter(5))
    run = make_run()
    for name in ("metrics.jsonl", "unfinished.json") if lost == "both" else (lost,):
        (run.out / name).unlink()
    observer = StopAfter()
    train(run, observer=observer)
    assert observer.resumed_after == [5]
    assert [record["step"] for record in read_metrics(run.out / "metrics.jsonl")] == list(range(1, 9))


def test_l5_a_folder_moved_away_while_a_run_writes_to_it_ends_the_run_and_can_be_resumed(
    make_run: MakeRun,
) -> None:
    run = make_run()
    elsewhere = run.out.with_name("elsewhere")

    class Move(Observer):
        def stepped(self, record: dict[str, Any], n_tokens: int) -> None:
            if record["step"] == 3:
                run.out.rename(elsewhere)

    with pytest.raises(CmgemsError, match="was moved or replaced while the run was writing to it"):
        train(run, observer=Move())
    assert not run.out.exists()
    assert [path.name for path in (elsewhere / "checkpoints").iterdir()] == ["step_000002"]
    train(make_run("elsewhere"))


def test_a_run_that_replaces_a_model_leaves_it_until_the_end_and_resumes(make_run: MakeRun) -> None:
    whole = train(make_run("whole", seed=1))
    out = train(make_run())
    before = read_manifest(out, verify=True).digest
    with pytest.raises(CmgemsError, match="stopped after step 5"):
        train(make_run(seed=1), overwrite=True, observer=StopAfter(5))
    assert read_manifest(out, verify=True).digest == before
    resumed: list[int] = []
    observer = Observer()
    observer.resumed = resumed.append  # type: ignore[method-assign]
    train(make_run(seed=1), overwrite=True, observer=observer)
    assert resumed == [5]
    assert read_manifest(out, verify=True).digest == read_manifest(whole).digest
    assert sorted(path.name for path in out.parent.iterdir() if path.name.startswith(".")) == []


def test_a_finished_run_loads_no_model(make_run: MakeRun) -> None:
    train(make_run())
    run = make_run(max_batch_tokens=256)
    train(run)
    assert not {"engine", "module", "sample", "unigram"} & set(vars(run))


def test_restored_state_is_complete_and_of_the_right_shape(make_run: MakeRun) -> None:
    run = make_run()
    engine = run.engine
    step = run.make_step(1)
    engine.step(1, step.batches, step.n_targets)
    weights, moments = ({name: value.clone() for name, value in part.items()} for part in engine.state())
    name = next(iter(weights))
    engine.load_state(1, weights, moments)
    for broken_weights, broken_moments in (
        ({**weights, name: weights[name][:1]}, moments),
        ({key: value for key, value in weights.items() if key != name}, moments),
        ({**weights, "extra": weights[name]}, moments),
        (weights, {key: value for key, value in moments.items() if key != f"exp_avg.{name}"}),
        (weights, {**moments, f"exp_avg_sq.{name}": moments[f"exp_avg_sq.{name}"][:1]}),
        (weights, {}),
    ):
        with pytest.raises(InputError, match="the saved state has"):
            engine.load_state(1, broken_weights, broken_moments)


def test_perplexity_is_the_exponential_of_the_mean_loss(make_run: MakeRun) -> None:
    run = make_run()
    total, count = 0.0, 0
    run.module.eval()
    for batch in run.validation.batches:
        with torch.no_grad():
            mask = (
                batch.attention_mask if batch.attention_mask is not None else torch.ones_like(batch.input_ids)
            )
            logits = run.module.bert_lm(input_ids=batch.input_ids, attention_mask=mask).logits.flatten(0, 1)
        for place, label in zip(batch.masked_index.tolist(), batch.labels.tolist(), strict=True):
            total -= float(logits[place].double().log_softmax(-1)[label])
            count += 1
    assert count == run.validation.n_targets
    assert perplexity(run.engine, run.validation) == pytest.approx(math.exp(total / count), rel=1e-5)


def test_the_validation_sample_is_of_validation_sequences_once_each(make_run: MakeRun) -> None:
    corpus = make_run().corpus
    sample = validation_sample(corpus, 50, 1)
    assert len(set(sample.tolist())) == 50
    assert sample.min() >= corpus.n_train
    assert len(validation_sample(corpus, 10**9, 1)) == corpus.n_valid
    assert not np.array_equal(sample, validation_sample(corpus, 50, 2))


def test_a_validation_sample_without_masked_tokens_is_refused(inputs: tuple[Path, Path]) -> None:
    sample: Any = SimpleNamespace(labels=np.empty(0, np.int64))
    with pytest.raises(
        UsageError, match="no token of the validation sequences is masked; raise `eval_sequences`"
    ):
        unigram_perplexity(Corpus.open(inputs[0]), sample, 42)


def test_a_validation_loss_that_is_not_a_number_ends_the_run(make_run: MakeRun) -> None:
    run = make_run()
    with torch.no_grad():
        for parameter in run.module.parameters():
            parameter.fill_(math.nan)
    with pytest.raises(CmgemsError, match="the validation loss became nan; lower `learning_rate`"):
        perplexity(run.engine, run.validation)


def test_the_unigram_baseline_lies_below_uniform_guessing(make_run: MakeRun) -> None:
    run = make_run()
    sample = run.maker.sample_fixed(run.sample, Strategy.GENEMASK, 0.15)
    assert 500 < unigram_perplexity(run.corpus, sample, 1) < 4101


def test_a_model_folder_is_a_start_to_go_on_from(make_run: MakeRun) -> None:
    first = train(make_run("first"))
    trained = load_file(first / "model.safetensors")
    for changed in ({"model": str(first)}, {"init": str(first)}):
        run = make_run("more", **changed)
        assert "model" in run.inputs or "init" in run.inputs
        assert run.inputs.get("model", run.inputs.get("init")) == read_manifest(first).digest
        # No path may enter the digest.
        assert str(first) not in str(run.params)
        name, weight = next(iter(run.module.bert_lm.named_parameters()))
        assert torch.equal(weight, trained[name])
    fresh = make_run("more", model=str(first), init="random")
    name, weight = next(iter(fresh.module.bert_lm.named_parameters()))
    assert weight.shape == trained[name].shape
    assert not torch.equal(weight, trained[name])
    train(fresh)


def test_the_result_opens_in_transformers_as_it_was_trained(make_run: MakeRun) -> None:
    from transformers import AutoModelForMaskedLM, AutoTokenizer

    run = make_run()
    out = train(run)
    model, tokenizer = AutoModelForMaskedLM.from_pretrained(out), AutoTokenizer.from_pretrained(out)
    bases = "ACGTACGTTGCATGCC"
    spaced = " ".join(bases[i : i + 6] for i in range(len(bases) - 5))
    batch = tokenizer(spaced, return_tensors="pt")
    assert batch["input_ids"].shape == (1, len(bases) - 5 + 2)
    assert 1 not in batch["input_ids"]  # no [UNK]
    run.module.eval()
    with torch.no_grad():
        assert torch.allclose(model(**batch).logits, run.module.bert_lm(**batch).logits, atol=1e-6)


def arguments(inputs: tuple[Path, Path], out: Path, *more: str) -> list[str]:
    options = (
        "--model tiny --steps 120 --global-batch 16 --max-batch-tokens 160 --eval-every 6 --eval-sequences 16"
    )
    fixed = ["--switch-threshold", "100%", "--precision", "fp32", "--pmi", str(inputs[1]), "--out", str(out)]
    return ["pretrain", str(inputs[0]), *options.split(), *fixed, "--json", *more]


def steps_logged(out: Path) -> int:
    path = out / "metrics.jsonl"
    return len(path.read_text().splitlines()) if path.exists() else 0


@pytest.mark.subprocess
def test_killed_interrupted_and_terminated_processes_resume_to_the_same_bytes(
    cmgems: CommandLine, inputs: tuple[Path, Path], tmp_path: Path
) -> None:
    summary = cmgems(*arguments(inputs, tmp_path / "whole")).json
    assert summary["kind"] == "model"
    assert summary["stats"]["switched_at_step"] == 12
    out = tmp_path / "parts"
    # SIGKILL leaves the last regular checkpoint; the others save one where they stop. The steps lie before,
    # around and after the switch.
    for number, code, step in (
        (signal.SIGKILL, -9, random.randint(7, 11)),
        (signal.SIGINT, 130, random.randint(13, 30)),
        (signal.SIGTERM, 143, random.randint(45, 70)),
    ):
        process = cmgems.start(*arguments(inputs, out))
        wait_until(lambda step=step: steps_logged(out) >= step, process)
        process.send_signal(number)
        err = cmgems.finish(process, code=code).stderr
        assert not (out / "manifest.json").exists()
        if number != signal.SIGKILL:
            assert err.splitlines()[-1].startswith("stopped after step")
    resumed = cmgems(*arguments(inputs, out)).json
    for name in ("model.safetensors", "metrics.jsonl"):
        assert (out / name).read_bytes() == (tmp_path / "whole" / name).read_bytes(), name
    assert resumed["digest"] == summary["digest"]


@pytest.mark.skipif(importlib.util.find_spec("fcntl") is None, reason="needs fcntl's locks")
def test_a_second_command_in_the_same_folder_is_refused_and_spoils_nothing(make_run: MakeRun) -> None:
    first, second = make_run("model"), make_run("model")
    refused: list[str] = []

    class Meanwhile(Observer):
        def stepped(self, record: dict[str, Any], n_tokens: int) -> None:
            if record["step"] == 3:
                with pytest.raises(OverwriteError, match="another command is writing to") as caught:
                    pretrain(second, resume=True, overwrite=False)
                refused.append(str(caught.value))

    pretrain(first, resume=True, overwrite=False, observer=Meanwhile())
    assert len(refused) == 1
    assert [record["step"] for record in read_metrics(first.out / "metrics.jsonl")] == list(range(1, 9))
    pretrain(make_run("straight"), resume=True, overwrite=False)
    for name in ("model.safetensors", "metrics.jsonl"):
        assert (first.out / name).read_bytes() == (first.out.parent / "straight" / name).read_bytes()


def test_another_kind_of_unfinished_run_is_not_removed(make_run: MakeRun) -> None:
    run = make_run("model")
    stopped = StopAfter(4)
    with pytest.raises(CmgemsError):
        pretrain(run, resume=True, overwrite=False, observer=stopped)
    marker = run.out / "unfinished.json"
    marker.write_text(marker.read_text().replace('"kind": "model"', '"kind": "classifier"'))
    for resume in (True, False):
        with pytest.raises(OverwriteError, match="holds an unfinished classifier artifact, not a model"):
            pretrain(make_run("model"), resume=resume, overwrite=True)
    marker.write_text("{")
    pretrain(make_run("model"), resume=False, overwrite=False)


@pytest.mark.subprocess
def test_two_torchrun_processes_equal_one(
    cmgems: CommandLine, inputs: tuple[Path, Path], tmp_path: Path
) -> None:
    # 160 padded tokens make four micro-batches or more of 16 sequences: two or more for each process.
    options = ["--steps", "14", "--lr", "4e-4"]
    for done in (
        cmgems(*arguments(inputs, tmp_path / "one", *options)),
        cmgems.process(*arguments(inputs, tmp_path / "two", *options), launcher=torchrun(2)),
    ):
        assert done.json["stats"]["switched_at_step"] == 12
    one, two = (load_file(tmp_path / out / "model.safetensors") for out in ("one", "two"))
    assert one.keys() == two.keys()
    for name, value in one.items():
        assert torch.allclose(value, two[name], atol=1e-5, rtol=0), name
    curves = [read_metrics(tmp_path / out / "metrics.jsonl") for out in ("one", "two")]
    for first, second in zip(*curves, strict=True):
        assert first["loss"] == pytest.approx(second["loss"], abs=1e-5)


def test_compiling_is_no_choice_of_the_run_but_is_recorded(
    make_run: Callable[..., PretrainingRun], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A compiler is not at hand everywhere: the function that would be compiled stands in for its compilation."""
    compiled: list[dict[str, Any]] = []

    def compile_nothing(module: torch.nn.Module, **options: Any) -> torch.nn.Module:
        compiled.append(options)
        return module

    monkeypatch.setattr(torch, "compile", compile_nothing)
    compiled_part.cache_clear()
    plain = pretrain(make_run("plain", steps=4), resume=True, overwrite=False)
    assert not compiled
    made = pretrain(make_run("compiled", steps=4, compile=True), resume=True, overwrite=False)
    compiled_part.cache_clear()
    # The entrance, the layers, the last layer and the head.
    assert compiled == 4 * [{"dynamic": True}]
    assert made.digest == plain.digest
    assert (plain.environment["compiled"], made.environment["compiled"]) == (False, True)


def test_dropout_is_set_for_pretraining_alone_and_recorded(
    make_run: Callable[..., PretrainingRun], tmp_path: Path
) -> None:
    assert "dropout" not in make_run("own").params
    run = make_run("dropped", steps=4, dropout=0.3)
    assert {part.p for part in run.module.modules() if isinstance(part, torch.nn.Dropout)} == {0.3}
    manifest = pretrain(run, resume=True, overwrite=False)
    assert manifest.params["dropout"] == 0.3
    assert read_config(tmp_path / "dropped").hidden_dropout_prob == 0.0
