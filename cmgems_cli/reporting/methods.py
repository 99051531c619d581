"""A methods paragraph and BibTeX, generated from the manifests alone."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from cmgems_cli import __version__
from cmgems_cli.masking import INFO
from cmgems_cli.readable import counted
from cmgems_cli.reporting.comparison_chapter import Compared
from cmgems_cli.reporting.elements import Code, Part, Section, Text, listed
from cmgems_cli.reporting.evaluation_methods import comparison_sentences, machines_of, score_sentences
from cmgems_cli.reporting.sources import Run

# Names in print.
MODELS = {"dnabert": "DNABERT", "logo": "LOGO", "tiny": "tiny (64-wide, two-layer)"}

# The optimizer of pretraining, which is fixed (method, section 6).
PRETRAINING_OPTIMIZER = (
    "AdamW (betas 0.9 and 0.98, epsilon 1e-6, weight decay 0.01, gradient norm clipped at 1)"
)

# Parameters that models described in one sentence have in common.
_ALIKE = ("model", "init", "k", "steps", "global_batch", "learning_rate", "warmup_steps", "rank_by", "seed")

_BIBTEX = """\
@inproceedings{{roy2024unlocking,
  title     = {{Unlocking Efficiency: Adaptive Masking for Gene Transformer Models}},
  author    = {{Roy, Soumyadeep and Sural, Shamik and Ganguly, Niloy}},
  booktitle = {{27th European Conference on Artificial Intelligence ({{ECAI}} 2024)}},
  year      = {{2024}}
}}

@misc{{cmgems,
  title        = {{cmgems: curriculum masking for genome language models}},
  author       = {{{{The cmgems developers}}}},
  howpublished = {{Software, version {version}}}
}}
"""


def bibtex() -> str:
    """Return what to cite: the paper of CM-GEMS, and this software."""
    return _BIBTEX.format(version=__version__)


def methods_section(runs: Sequence[Run], comparisons: Mapping[str, Compared], seed: int) -> Section:
    """Return the paragraph and the references (parameters as `comparison_sentences`)."""
    parts: list[Part] = [
        Text("Generated from the run manifests; please check before publication."),
        Text(methods_paragraph(runs, comparisons, seed)),
        Code(bibtex(), "bibtex"),
    ]
    return Section("Methods and references", parts)


def methods_paragraph(runs: Sequence[Run], comparisons: Mapping[str, Compared], seed: int) -> str:
    """Return the methods as one paragraph of plain text, citing [1] the paper and [2] the software."""
    sentences = [*_corpora(runs), *_rankings(runs), *_pretraining(runs), *_classifiers(runs)]
    sentences += [*score_sentences(runs), *comparison_sentences(runs, comparisons, seed)]
    sentences.append(
        f"All stages ran with cmgems [2]{_software(runs)}, an implementation of CM-GEMS [1] independent of its"
        " authors' code."
    )
    return " ".join(sentences)


def _corpora(runs: Sequence[Run]) -> list[str]:
    sentences = []
    for run in runs:
        if run.kind == "corpus":
            params, stats = run.made.params, run.made.stats
            sentences.append(
                f"{stats['bases']:,} bases of {counted(stats['contigs'], 'contig')} were cut into"
                f" {stats['sequences']:,} sequences of at most {params['max_tokens']:,} overlapping {params['k']}-mers,"
                f" {stats['valid_sequences']:,} of them held out for validation."
            )
    return sentences


def _rankings(runs: Sequence[Run]) -> list[str]:
    sentences = []
    for run in runs:
        if run.kind == "pmi":
            params, stats = run.made.params, run.made.stats
            sentences.append(
                f"{params['k']}-mers were ranked by normalised pointwise mutual information ({params['definition']}"
                f" definition, minimum count {params['min_count']}) over {stats['positions_counted']:,} positions"
                f" ({stats['ranked']:,} ranked)."
            )
    return sentences


def _pretraining(runs: Sequence[Run]) -> list[str]:
    groups: dict[tuple[Any, ...], list[Run]] = {}
    for run in runs:
        if run.kind == "model":
            groups.setdefault(tuple(str(run.made.params.get(name)) for name in _ALIKE), []).append(run)
    sentences = []
    for group in groups.values():
        params = group[0].made.params
        start = "" if params.get("init") in (None, "random") else f" from {params['init']}"
        maskings = listed(list(dict.fromkeys(_masking(run) for run in group)))
        sentences.append(
            f"{_model(params['model'])} ({group[0].made.stats['parameters'] / 1e6:,.1f} M parameters,"
            f" {params['k']}-mers) was pretrained{start} by masked language modelling with {maskings}, for"
            f" {params['steps']:,} steps of {params['global_batch']:,} sequences with {PRETRAINING_OPTIMIZER}, a peak"
            f" learning rate of {params['learning_rate']:g} and linear decay after {params['warmup_steps']:,} steps of"
            f" warm-up (seed {params['seed']}{machines_of(group)})."
        )
        if params.get("rank_by") == "position":
            sentences.append("Ranks were looked up by position, the variant of the released code.")
    return sentences


def _masking(run: Run) -> str:
    """Return a strategy with its mask rate and, of CM-GEMS, its switch."""
    params, stats = run.made.params, run.made.stats
    words = f"{_printed_name(params['strategy'])} (mask rate {100 * params['mask_rate']:g} %"
    if params["strategy"] == "cm-gems":
        threshold = str(params.get("switch_threshold"))
        relative = threshold.endswith("%")
        switched = stats.get("switched_at_step")
        apart = f"{params['eval_every']:,} {'step' if params['eval_every'] == 1 else 'steps'}"
        when = "no switch occurred" if switched is None else f"the switch came after step {switched:,}"
        words += (
            f"; GENEMASK until validation perplexity fell by less than {threshold}"
            f"{' of its last value' if relative else ''} between evaluations {apart} apart,"
            f" then GLOBAL; {when}"
        )
    return words + ")"


def _printed_name(strategy: str) -> str:
    return INFO[strategy].printed_name if strategy in INFO else strategy


def _classifiers(runs: Sequence[Run]) -> list[str]:
    chosen = [run for run in runs if run.kind == "classifier"]
    sentences = []
    for run in chosen:
        params = run.made.params
        start = "random weights" if params.get("init") == "random" else "pretrained weights"
        shots = "" if params.get("shots") is None else f" with {params['shots']} training rows per class"
        if params.get("freeze"):
            sentences.append(
                f"A classifier for {task_of(run)}{shots} is a logistic regression on embeddings of a frozen model"
                f" ({start}; {params['pool']} over the last layer), C {run.made.stats['C']:g}, tested once"
                f" (seed {params['seed']}{machines_of([run])})."
            )
            continue
        lora = f" with LoRA of rank {params['lora']}" if params.get("lora") else ""
        which = "lowest dev loss" if params.get("keeps") == "best" else "last step"
        sentences.append(
            f"A classifier for {task_of(run)}{shots} was fine-tuned from {start}{lora}"
            f" for {params['steps']:,} steps of {params['global_batch']:,} rows at a peak learning rate of"
            f" {params['learning_rate']:g}; the model of the {which} was tested once (seed {params['seed']}"
            f"{machines_of([run])})."
        )
    return sentences


def task_of(run: Run) -> str:
    """Return the name of a classifier's task; for custom data that of its folder, or else of the classifier's."""
    return str(run.made.params.get("task") or run.made.environment.get("data") or run.label)


def _software(runs: Sequence[Run]) -> str:
    """Return the versions that the runs recorded, in words."""
    names = {"cmgems": "cmgems", "torch": "PyTorch", "transformers": "transformers", "python": "Python"}
    recorded: dict[str, set[str]] = {name: set() for name in names}
    for run in runs:
        for name, version in (run.manifest.environment.get("versions", {}) if run.manifest else {}).items():
            if name in recorded:
                recorded[name].add(str(version))
    words = [f"{names[name]} {listed(sorted(versions))}" for name, versions in recorded.items() if versions]
    return f" (versions recorded: {', '.join(words)})" if words else ""


def _model(name: Any) -> str:
    return MODELS.get(str(name), str(name))
