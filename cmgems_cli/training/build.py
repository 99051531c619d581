"""From paths to a run that is ready: every input opened, checked against the others, and loaded."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import torch

from cmgems_cli.errors import InputError, UsageError
from cmgems_cli.genome.corpus import Corpus
from cmgems_cli.genome.vocabulary import SPECIAL_POSITIONS
from cmgems_cli.masking import WITHOUT_RANKS, Strategy
from cmgems_cli.modeling.encoder import packs_sequences
from cmgems_cli.modeling.masked_lm import MaskedPositionsLM, load_masked_lm, set_dropout
from cmgems_cli.modeling.model_source import ModelSource
from cmgems_cli.pmi.ranking import no_ranks, read_ranking
from cmgems_cli.training.batching import LOOSE_SHAPE, fixed_shape
from cmgems_cli.training.engine import draws_dropout
from cmgems_cli.training.micro_batch import packed_batch_tokens
from cmgems_cli.training.pretrain_batches import PretrainBatches
from cmgems_cli.training.pretrain_options import PretrainingOptions
from cmgems_cli.training.pretrain_run import PretrainingRun
from cmgems_cli.training.processes import Processes, resolve_precision


def build_pretraining_run(
    corpus_folder: Path,
    pmi_folder: Path | None,
    out: Path,
    options: PretrainingOptions,
    processes: Processes,
) -> PretrainingRun:
    """Open everything a pretraining run needs.

    Parameters
    ----------
    corpus_folder : Path
        From `prepare-genome`.
    pmi_folder : Path or None
        From `build-pmi`. Strategies without ranks do without; they still use one for the fixed
        validation masks, so that their perplexities compare with the other strategies'.
    out : Path
        The run's folder.
    options : PretrainingOptions
        Their open defaults are filled in here.
    processes : Processes

    Raises
    ------
    UsageError, InputError
        If options contradict each other, or an input is missing, damaged or does not fit the others.
    """
    chosen = options
    options = options.resolve(processes.device.type)
    precision = resolve_precision(options.precision, processes.device)
    corpus = Corpus.open(corpus_folder)
    _check_corpus(corpus, corpus_folder, options)
    inputs = {"corpus": corpus.manifest.digest}
    rank_of_token = no_ranks(corpus.k)
    validation_strategy = Strategy.RANDOM
    if pmi_folder is not None:
        ranking = read_ranking(pmi_folder, corpus.k)
        inputs["pmi"] = ranking.manifest.digest
        rank_of_token = ranking.rank_of_token
        validation_strategy = Strategy.GENEMASK
    elif options.strategy not in WITHOUT_RANKS:
        raise UsageError(
            f"`strategy={options.strategy}` masks by k-mer ranks; give `pmi` or run `cmgems build-pmi` first"
        )
    source = ModelSource(options.model, options.init)

    def load() -> MaskedPositionsLM:
        model, _ = load_masked_lm(source, k=corpus.k, seed=options.seed)
        longest = _longest(corpus)
        positions = model.config.max_position_embeddings
        if longest > positions:
            raise InputError(
                f"{corpus_folder} holds sequences of {longest} positions, the model has {positions};"
                f" run `cmgems prepare-genome` with `max_tokens={positions - SPECIAL_POSITIONS}`"
            )
        if options.dropout is not None:
            set_dropout(model, options.dropout)
        if options.cuda_graph and draws_dropout(model):
            raise UsageError("`cuda_graph` would replay the same dropout; leave it out, or give `dropout=0`")
        return MaskedPositionsLM(model)

    inputs |= source.inputs
    packed = packs_sequences(processes.device, precision)
    if packed and chosen.max_batch_tokens is None:
        # The least of all cards: every process divides the step alike.
        free = min(processes.gather(torch.cuda.mem_get_info(processes.device)[0]))
        tokens = packed_batch_tokens(source.config_for(corpus.k)[0], options.mask_rate, free)
        options = replace(options, max_batch_tokens=tokens)
    if options.cuda_graph and not (packed and processes.world_size == 1):
        raise UsageError(
            f"`cuda_graph` needs one process on a CUDA card with bf16; here are {processes.number} on"
            f" {processes.device} in {precision}: leave it out"
        )
    shape = LOOSE_SHAPE
    if packed and (options.compile or options.cuda_graph):
        shape = fixed_shape(options.max_batch_tokens, options.global_batch, _longest(corpus))
    maker = PretrainBatches(
        corpus,
        rank_of_token,
        options.mask_rate,
        options.rank_by,
        options.global_batch,
        options.max_batch_tokens,
        options.seed,
        processes,
        packed,
        shape,
    )
    return PretrainingRun(
        corpus,
        maker,
        load,
        source,
        options,
        inputs=inputs,
        validation_strategy=validation_strategy,
        out=out,
        processes=processes,
        precision=precision,
    )


def _longest(corpus: Corpus) -> int:
    return int(corpus.windows["n_tokens"].max()) + SPECIAL_POSITIONS


def _check_corpus(corpus: Corpus, folder: Path, options: PretrainingOptions) -> None:
    for found, kind in ((corpus.n_train, "training"), (corpus.n_valid, "validation")):
        if not found:
            raise InputError(
                f"{folder} has no {kind} sequences; make a corpus of more sequence, or with another `valid_share`"
            )
    if options.eval_sequences < 1 or options.global_batch < 1:
        raise UsageError("`eval_sequences` and `global_batch` need at least 1 sequence")
