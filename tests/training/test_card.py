"""Model cards: what they say is what the manifest holds, and their code loads the model."""

import re
from collections.abc import Callable
from pathlib import Path

import pytest

from cmgems_cli.artifacts import read_manifest
from cmgems_cli.markdown import escaped
from cmgems_cli.masking import INFO, SINGLE, STRATEGIES
from cmgems_cli.modeling.card import classifier_card
from cmgems_cli.training.pretrain_run import PretrainingRun, pretrain

PARAMS = {
    "task": "tf/0",
    "init": "random",
    "steps": 1000,
    "global_batch": 32,
    "learning_rate": 3e-5,
    "warmup_steps": 30,
    "seed": 42,
    "k": 6,
}
STATS = {
    "parameters": 4_929_026,
    "n_train": 32_378,
    "n_dev": 1000,
    "n_test": 900,
    "best_step": 800,
    "mcc": 0.64167,
    "accuracy": 0.815,
    "f1": 0.81,
    "collapsed": False,
    "notes": ["dev rows that repeat an earlier sequence: 1"],
}


def test_every_strategy_has_its_words_and_every_single_one_a_colour() -> None:
    assert tuple(INFO) == STRATEGIES
    assert {name for name in STRATEGIES if not INFO[name].made_of} == set(SINGLE)
    assert all(info.printed_name and info.masks for info in INFO.values())
    colours = [INFO[name].colour for name in SINGLE]
    assert len(set(colours)) == len(SINGLE)
    assert all(colours)


def test_a_classifiers_card_has_its_scores_rows_and_notes() -> None:
    card = classifier_card(PARAMS, {"train": "abc"}, STATS, ["0", "1"])
    for words in (
        "| task | tf/0 |",
        "| MCC | 0.6417 |",
        "| rows | train 32,378, dev 1,000, test 900 |",
        "| started from | random weights |",
        "- dev rows that repeat an earlier sequence: 1",
        "| train | `abc` |",
        "the model with the lowest dev loss was tested",
    ):
        assert words in card, words
    assert "of no use" not in card
    collapsed = classifier_card(PARAMS, {}, {**STATS, "collapsed": True, "best_step": None}, ["0", "1"])
    assert "of no use" in collapsed
    assert "the last model was tested" in collapsed


@pytest.mark.parametrize(
    "name",
    [
        "<script>alert(1)</script>",
        "a|b",
        "[x](http://evil.example)",
        "![x](y)",
        "`code`",
        "\x1b]0;x\x07",
        "a\n# b",
    ],
)
def test_security_labels_tasks_and_notes_are_plain_text_in_a_card(name: str) -> None:
    notes = [f"labels that are equal but for their spelling: {name}"]
    card = classifier_card({**PARAMS, "task": name}, {}, {**STATS, "notes": notes}, [name, "b"])
    for markup in ("<script>", "[x](", "`code`", "\x1b", "\x07", "\n# b"):
        assert markup not in card
    assert card.count(escaped(name)) == 4
    assert f"| classes | {escaped(name)}, b |" in card


@pytest.fixture
def trained(make_run: Callable[..., PretrainingRun], tmp_path: Path) -> Path:
    pretrain(make_run(steps=4, eval_every=2), resume=True, overwrite=False)
    return tmp_path / "model"


def test_a_models_card_says_what_its_manifest_holds_and_its_code_runs(trained: Path) -> None:
    manifest = read_manifest(trained, "model", verify=True)
    card = (trained / "README.md").read_text()
    assert "README.md" in manifest.files
    assert f"{manifest.stats['parameters']:,} parameters" in card
    assert f"`{manifest.inputs['corpus']}`" in card
    assert f"| unigram baseline | {manifest.stats['unigram_perplexity']:,.0f} |" in card
    assert "| steps | 4 of 12 sequences |" in card
    assert f"| strategy | {manifest.params['strategy']}: " in card
    assert " of 1 contig, forward strand |" in card
    # YAML front matter first, as hubs want it.
    assert card.startswith("---\nlibrary_name: transformers\npipeline_tag: fill-mask\n")
    assert str(trained.parent) not in card
    match = re.search(r"```python\n(.*?)```", card, re.DOTALL)
    assert match is not None
    lines = match[1].replace("FOLDER", str(trained)).strip().splitlines()
    assert len(lines) == 3
    names: dict[str, object] = {}
    exec("\n".join([*lines[:2], f"logits = {lines[2]}"]), names)
    assert names["logits"].shape == (1, 9, 4101)  # type: ignore[attr-defined]
