"""The model card of a finished folder: a README.md for model hubs, generated from the manifest.

It depends on no path, time or version, so equal runs write equal cards.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from cmgems_cli.markdown import escaped, table
from cmgems_cli.masking import INFO
from cmgems_cli.metrics import METRICS, Problem, printed_perplexity
from cmgems_cli.readable import counted

CARD = "README.md"

# After a snippet, for a model with tokens of its own.
_UPPER_CASE = (
    "\n\nGive `transformers` sequences in upper case, as `cmgems` does: the tokenizer of a model made elsewhere may"
    " read lower case as unknown."
)

PAPER = (
    "*Unlocking Efficiency: Adaptive Masking for Gene Transformer Models* (ECAI 2024), whose method `cmgems`"
    " implements"
)


def masked_lm_card(
    params: Mapping[str, Any],
    inputs: Mapping[str, str],
    stats: Mapping[str, Any],
    corpus: Mapping[str, Any],
    perplexities: tuple[float, float] | None,
) -> str:
    """Return the card of a pretrained model.

    Parameters
    ----------
    params, inputs, stats : mapping
        As in the model's manifest.
    corpus : mapping
        `stats` of the corpus.
    perplexities : (float, float), optional
        At the last step: with the fixed masks, and with those of the active strategy.
    """
    k, strategy = params["k"], params["strategy"]
    facts = [
        ("architecture", f"BERT encoder, {stats['parameters']:,} parameters, {k}-mer vocabulary"),
        (
            "started from",
            "random weights" if params["init"] in (None, "random") else "another model's weights",
        ),
        ("sequence", f"{corpus['bases']:,} bases of {counted(corpus['contigs'], 'contig')}, forward strand"),
        (
            "training sequences",
            f"{corpus['train_sequences']:,}; {corpus['valid_sequences']:,} held out for validation",
        ),
        ("strategy", f"{strategy}: {INFO[strategy].masks if strategy in INFO else 'as its name says'}"),
        ("mask rate", f"{params['mask_rate']:g}"),
        ("steps", f"{params['steps']:,} of {params['global_batch']:,} sequences"),
        ("learning rate", f"{params['learning_rate']:g}, warm-up {params['warmup_steps']:,} steps"),
        ("seed", str(params["seed"])),
    ]
    if strategy == "cm-gems":
        at = stats["switched_at_step"]
        facts.append(("switched to GLOBAL", "never" if at is None else f"after step {at:,}"))
    scores = [("unigram baseline", f"{stats['unigram_perplexity']:,.0f}")]
    if perplexities is not None:
        fixed, active = perplexities
        masks = params["validation_masks"]
        scores += [
            (f"fixed {masks} masks", printed_perplexity(fixed)),
            ("masks of the active strategy", printed_perplexity(active)),
        ]
    return _card(
        "fill-mask",
        f"DNA language model, {k}-mers, pretrained with {strategy}",
        f"A masked language model of DNA, pretrained with `cmgems`; see {PAPER}.",
        [
            _section("Data and recipe", table(["", ""], facts)),
            _section("Perplexity on held-out sequence", table(["masks", "perplexity"], scores)),
            _section(
                "Limits",
                f"- It reads the forward strand as overlapping {k}-mers. The tokenizer splits plain DNA, in upper or"
                " lower case; k-mers with other letters become `[UNK]`.\n"
                "- Perplexities are comparable only with the same masks, and do not predict performance on a task:"
                " fine-tune the model (`cmgems evaluate`) and compare it with the same architecture from random"
                " weights.\n"
                "- It was trained on the sequence above only.",
            ),
            _loading("AutoModelForMaskedLM"),
            _digests(inputs),
        ],
    )


def classifier_card(
    params: Mapping[str, Any],
    inputs: Mapping[str, str],
    stats: Mapping[str, Any],
    labels: Sequence[str],
    *,
    opens_in_transformers: bool = True,
    content: str | None = None,
) -> str:
    """Return the card of a classifier.

    Parameters
    ----------
    params, inputs, stats : mapping
        As in the classifier's manifest.
    labels : sequence of str
        Names of the classes, in order of their numbers.
    opens_in_transformers : bool, default True
        Tell how to load it there.
    content : str, optional
        Of a frozen encoder that opens there: which of its states are those of the sequence, such as `1:-1`.
    """
    task = params.get("task") or "custom task"
    kind = "regression model" if stats.get("problem") == "regression" else "classifier"
    facts = [
        ("task", task),
        *_predicts(stats.get("problem", "multiclass"), labels),
        ("parameters", f"{stats['parameters']:,}"),
        ("started from", "random weights" if params.get("init") == "random" else "pretrained weights"),
        ("rows", f"train {stats['n_train']:,}, dev {stats['n_dev']:,}, test {stats['n_test']:,}"),
        *(_frozen_facts(params, stats) if params.get("freeze") else _training_facts(params, stats)),
        ("seed", str(params["seed"])),
    ]
    # Our k-mers are read in any case.
    case = "" if params.get("k") else _UPPER_CASE
    scores = [(metric.title, f"{stats[name]:.4f}") for name, metric in METRICS.items() if name in stats]
    notes = [f"- {escaped(note)}" for note in stats["notes"]]
    if stats.get("collapsed") and stats.get("accuracy") != 1:
        notes.insert(0, "- **The model predicts the same for every test row: its labels are of no use.**")
    notes.append(
        "- One seed: other seeds give other scores. Report several, and compare with random weights."
    )
    return _card(
        "text-classification",
        f"DNA {kind}: {escaped(task)}",
        f"A {kind} of DNA sequences, fine-tuned with `cmgems`; see {PAPER}.",
        [
            _section("Data and recipe", table(["", ""], facts)),
            _section("Scores on the test split", table(["metric", "value"], scores)),
            _section("Limits", "\n".join(notes)),
            *([_loading("AutoModelForSequenceClassification", case)] if opens_in_transformers else []),
            *([_encoder_and_head(params, content, case)] if params.get("freeze") and content else []),
            _section("Predict a file", "    cmgems predict FOLDER sequences.fa --out predictions.tsv"),
            _digests(inputs),
        ],
    )


def _training_facts(params: Mapping[str, Any], stats: Mapping[str, Any]) -> list[tuple[str, str]]:
    tested = "the model with the lowest dev loss" if stats["best_step"] is not None else "the last model"
    adapters = []
    if params.get("lora"):
        how = f"rank {params['lora']}, alpha {params['lora_alpha']}, dropout {params['lora_dropout']:g}"
        trained = f"{stats['trained_parameters']:,} weights were trained"
        adapters = [("adapters", f"LoRA ({how}) on the encoder's linear layers, merged into them; {trained}")]
    return [
        *adapters,
        ("steps", f"{params['steps']:,} of {params['global_batch']} rows; {tested} was tested, once"),
        ("learning rate", f"{params['learning_rate']:g}, warm-up {params['warmup_steps']:,} steps"),
    ]


def _frozen_facts(params: Mapping[str, Any], stats: Mapping[str, Any]) -> list[tuple[str, str]]:
    kind = "ridge" if stats.get("problem") == "regression" else "logistic"
    chosen = "fixed" if stats["dev_loss"] is None else f"chosen on dev of {', '.join(map(str, params['C']))}"
    return [
        ("encoder", "frozen: its weights are those of the model that it was made from"),
        ("head", f"{kind} regression on embeddings ({params['pool']} over the last layer)"),
        ("C", f"{stats['C']:g}, {chosen}"),
    ]


def _encoder_and_head(params: Mapping[str, Any], content: str, case: str) -> str:
    """Tell what of a frozen classifier opens in transformers: its encoder, under a head in a file of its own."""
    of_pool = {"cls": "states[0]", "mean": f"states[{content}].mean(0)", "max": f"states[{content}].amax(0)"}
    pooled = of_pool[params["pool"]]
    read = 'encoder(**tokenizer({}, return_tensors="pt")).last_hidden_state[0]'
    if params.get("rc") in ("average", "both"):
        applied = (
            'sequence = "ACGTACGTACGT"\n'
            'other = sequence.translate(str.maketrans("ACGT", "TGCA"))[::-1]  # both strands are averaged\n'
            f"found = [{read.format('strand')} for strand in (sequence, other)]\n"
            f'logits = head["weight"] @ (sum({pooled} for states in found) / 2) + head["bias"]\n'
        )
    else:
        example = '"ACGTACGTACGT"'
        applied = f'states = {read.format(example)}\nlogits = head["weight"] @ {pooled} + head["bias"]\n'
    return _section(
        "How to load it",
        "`cmgems predict` and `load_model` of `cmgems_cli` read it as it is. In `transformers` the encoder opens;"
        " the head is the two tensors of `head.safetensors`. For a sequence of known tokens:\n\n"
        "```python\n"
        "from safetensors.torch import load_file\n"
        "from transformers import AutoModel, AutoTokenizer\n"
        'encoder, tokenizer = AutoModel.from_pretrained("FOLDER"), AutoTokenizer.from_pretrained("FOLDER")\n'
        'head = load_file("FOLDER/head.safetensors")\n'
        f"{applied}```{case}",
    )


def _predicts(problem: Problem, labels: Sequence[str]) -> list[tuple[str, str]]:
    if problem == "regression":
        return [
            (
                "predicts",
                "a value: the logit times cmgems_target_scale plus cmgems_target_mean, both in config.json",
            )
        ]
    if problem == "multilabel":
        return [
            (
                "labels",
                f"{', '.join(labels)}; any number of them per row, those with sigmoid(logit) from 0.5 up",
            )
        ]
    return [("classes", ", ".join(labels))]


def write_card(folder: Path, card: str) -> str:
    """Write a card into a model folder; return the name of the file."""
    (folder / CARD).write_text(card, encoding="utf-8")
    return CARD


def _card(pipeline: str, title: str, what: str, sections: list[str]) -> str:
    front = ["---", "library_name: transformers", f"pipeline_tag: {pipeline}", "tags:"]
    front += [f"- {tag}" for tag in ("dna", "genomics", "cm-gems")]
    return "\n".join([*front, "---", ""]) + "\n" + "\n\n".join([f"# {title}", what, *sections]) + "\n"


def _section(title: str, text: str) -> str:
    return f"## {title}\n\n{text}"


def _loading(auto: str, case: str = "") -> str:
    return _section(
        "How to load it",
        "```python\n"
        f"from transformers import AutoTokenizer, {auto}\n"
        f'model, tokenizer = {auto}.from_pretrained("FOLDER"), AutoTokenizer.from_pretrained("FOLDER")\n'
        f'model(**tokenizer("ACGTACGTACGT", return_tensors="pt")).logits\n'
        f"```{case}",
    )


def _digests(inputs: Mapping[str, str]) -> str:
    rows = [(name, f"`{digest}`") for name, digest in sorted(inputs.items())]
    return _section("Made from", table(["input", "sha256"], rows, markup=True)) if rows else ""
