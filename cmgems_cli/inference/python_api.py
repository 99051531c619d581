"""The Python API: the same functions as the commands, for sequences in memory.

Everything can be imported from `cmgems_cli`, which loads heavy libraries at first use.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cmgems_cli.errors import InputError, UsageError
from cmgems_cli.genome.codec import encode_sequence
from cmgems_cli.genome.fasta_stream import SequenceChunk
from cmgems_cli.inference import embedding, loading, prediction
from cmgems_cli.inference.embedding import embed_blocks
from cmgems_cli.inference.inference_options import Pooling, Strand
from cmgems_cli.inference.loading import Model
from cmgems_cli.inference.places import PlaceColumns, places_of
from cmgems_cli.inference.prediction import predict_blocks
from cmgems_cli.inference.record_readers import Source, checked_dna
from cmgems_cli.inference.region_source import RegionSource
from cmgems_cli.inference.results import Embeddings, Predictions
from cmgems_cli.inference.row_blocks import tiling_options
from cmgems_cli.inference.survey import Input, check_lengths, survey, survey_input
from cmgems_cli.masking import SINGLE, WITHOUT_RANKS
from cmgems_cli.masking.corruption import corrupt_batch
from cmgems_cli.masking.strategies import mask_batch
from cmgems_cli.pmi.ranking import Ranking, no_ranks, read_ranking

# A file or one sequence (`as_input`), several sequences, several by name, a file, or regions of a genome.
Sequences = str | Iterable[str] | Mapping[str, str] | Path | Source


def load_model(folder: str | Path, *, device: str = "auto", precision: str = "fp32") -> Model:
    """Load a model folder: a pretrained model, a classifier, or another encoder that needs no remote code.

    Parameters
    ----------
    folder : str or Path
    device : str, default "auto"
        auto (CUDA if available), cpu, cuda or cuda:N.
    precision : str, default "fp32"
        fp32; bf16, faster and coarser; or auto, bf16 where the hardware multiplies it.

    Returns
    -------
    Model
        For `embed`, and `predict` if it is a classifier. Attributes are `k`, `max_tokens`, `label_names` and the
        torch modules `module.encoder` and `classifier`.

    Raises
    ------
    InputError, UsageError
        As for `loading.load_model`.
    """
    return loading.load_model(Path(folder), device=device, precision=precision)


def encode(sequences: str | Iterable[str], k: int = 6) -> list[NDArray[np.int32]]:
    """Return the token ids of sequences, without special tokens.

    Parameters
    ----------
    sequences : str, or iterable of str
        Letters in either case. A k-mer with any letter other than A, C, G, T is [UNK], 1.
    k : int, default 6
        Bases per token.

    Returns
    -------
    list of int32 arrays, shape (n - k + 1,)
        One array per sequence, where n is its number of letters.

    Examples
    --------
    >>> encode("ATCGatcg"), encode(["ATCG", "AT"], k=3)
    ([array([ 438, 1739, 2848], dtype=int32)], [array([11, 32], dtype=int32), array([], dtype=int32)])
    """
    many = [sequences] if isinstance(sequences, str) else sequences
    return [encode_sequence(sequence, k) for sequence in many]


def regions(bed: str | Path, genome: str | Path) -> RegionSource:
    """Return the regions of a genome that a BED file lists, as input of `predict` and `embed`.

    Parameters
    ----------
    bed : str or Path
        BED file, plain or gzip. Regions on the strand `-` are read as reverse complements.
    genome : str or Path
        FASTA file, plain or gzip.

    Raises
    ------
    InputError
        If a file is missing or the genome is not FASTA; the regions are checked when they are read.
    """
    return RegionSource(Path(bed), Path(genome))


def predict(
    model: Model,
    sequences: Sequences,
    *,
    window: int | None = None,
    stride: int | None = None,
    truncate: bool = False,
    strand: Strand = "forward",
) -> Predictions:
    """Classify sequences, or windows that slide along them.

    Parameters
    ----------
    model : Model
        A classifier, from `load_model`.
    sequences : str, iterable of str, mapping of name to str, or Path
        A Path, or a string that is the path of something that exists, is a file in FASTA, CSV or TSV, as for
        `cmgems predict`; any other string is one sequence. `regions` gives regions of a genome.
    window, stride : int, bases, optional
        Length and distance of windows; by default `stride` equals `window`. Windows without a known k-mer are
        omitted.
    truncate : bool, default False
        Cut sequences that are too long for the model instead of refusing them.
    strand : forward, reverse or both
        Read each row as it is, as its reverse complement, or the one and then the other as two rows.

    Returns
    -------
    Predictions
        All in memory; for a genome use `cmgems predict`.

    Raises
    ------
    UsageError, InputError
        If the model has no classes, parameters contradict, or a sequence is too long or not DNA.
    """
    if model.classifier is None:
        raise UsageError(
            f"{model.folder} has no classes to predict; load a folder written by `cmgems finetune`"
        )
    data = input_of(sequences, model, window=window, stride=stride, truncate=truncate, strand=strand)
    predicted = list(predict_blocks(model, data.blocks(prediction.look_ahead_tokens(model))))
    places = [places_of(one.block) for one in predicted]
    where = PlaceColumns.of(data)
    return Predictions(
        [name for one in predicted for name in one.block.names],
        np.concatenate([one.starts for one in places]),
        np.concatenate([one.ends for one in places]),
        [label for one in predicted for label in one.labels],
        model.label_names,
        np.concatenate([one.probabilities for one in predicted]),
        [strand for one in places for strand in one.strands()] if where.regions or where.strands else None,
        [contig for one in places for contig in one.contigs] if where.regions else None,
        model.target.problem,
    )


def embed(
    model: Model,
    sequences: Sequences,
    *,
    pooling: Pooling = "mean",
    layers: int | Sequence[int] = -1,
    truncate: bool = False,
) -> Embeddings:
    """Embed sequences.

    Parameters
    ----------
    model : Model
        From `load_model`.
    sequences, truncate
        As in `predict`.
    pooling : mean, max, cls or tokens
        Mean over the known k-mers (without [CLS], [SEP] and [UNK]); the state of [CLS]; or that of every k-mer.
    layers : int, or sequence of int, default -1
        0 is the output of the embeddings, -1 that of the last layer.

    Returns
    -------
    Embeddings
        `vectors` is a float32 array of shape (n, hidden); with pooling "tokens" a list of n arrays of shape
        (n_tokens, hidden). With a sequence of layers, the axis of layers precedes the last one. NaN for
        sequences without a known k-mer. It can be used as an array itself.

    Raises
    ------
    UsageError, InputError
        If the pooling or a layer is unknown, or a sequence is too long or not DNA.
    """
    data = input_of(sequences, model, truncate=truncate)
    one_layer = isinstance(layers, (int, np.integer))
    numbers = [int(layer) for layer in np.atleast_1d(layers)]
    ahead = embedding.look_ahead_tokens(model, pooling, len(numbers))
    embedded = list(embed_blocks(model, data.blocks(ahead), pooling=pooling, layers=numbers))
    states = np.concatenate([one.states for one in embedded])
    if one_layer:
        states = states[:, 0]
    names = [name for one in embedded for name in one.block.names]
    if pooling != "tokens":
        return Embeddings(names, states, tuple(numbers))
    ends = np.cumsum(np.concatenate([one.block.n_tokens for one in embedded]))
    return Embeddings(names, np.split(states, ends[:-1]), tuple(numbers))


def load_ranking(folder: str | Path) -> Ranking:
    """Load a folder written by `cmgems build-pmi`, for `mask`."""
    return read_ranking(Path(folder))


def mask(
    sequences: str | Iterable[str],
    strategy: str,
    *,
    ranking: Ranking | None = None,
    k: int = 6,
    mask_rate: float = 0.15,
    rank_by: str = "content",
    seed: int = 42,
    epoch: int = 0,
) -> list[NDArray[np.bool_]]:
    """Choose the masked positions of sequences, as pretraining does.

    Parameters
    ----------
    sequences : str, or iterable of str
    strategy : random, genemask, global or random-mask
        cm-gems and cm-step are curricula of these. random-mask has the spans of its first stage.
    ranking : Ranking, optional
        From `load_ranking`; required for genemask and global.
    k : int, default 6
        Bases per token; ignored with a ranking, which has its own.
    mask_rate, rank_by
        As in `masking.strategies.mask_batch`.
    seed, epoch : int
        Together with the number of the sequence they determine the draws.

    Returns
    -------
    list of bool arrays, shape (n_tokens,)
        True where a position is masked.

    Raises
    ------
    UsageError
        If the strategy is unknown, or needs a ranking.
    """
    if strategy not in SINGLE:
        raise UsageError(f"strategy {strategy!r} is unknown; choose {', '.join(SINGLE)}")
    if ranking is None and strategy not in WITHOUT_RANKS:
        raise UsageError(f"{strategy} masks by k-mer ranks; give a `ranking` from `load_ranking`")
    k = ranking.k if ranking else k
    ranks = ranking.rank_of_token if ranking else no_ranks(k)
    token_ids, offsets, keys = _batch(encode(sequences, k), seed, epoch)
    codes = np.full(len(offsets) - 1, SINGLE[strategy], np.uint8)
    masked = mask_batch(
        token_ids, offsets, codes, ranks, k=k, mask_rate=mask_rate, rank_by=rank_by, span_limit=k, **keys
    )
    return np.split(masked, offsets[1:-1])


def corrupt(
    sequences: str | Iterable[str],
    masks: Sequence[NDArray[np.bool_]],
    *,
    k: int = 6,
    seed: int = 42,
    epoch: int = 0,
) -> list[NDArray[np.int32]]:
    """Corrupt masked positions: 80 % [MASK] (4), 10 % a random k-mer, 10 % unchanged.

    Parameters
    ----------
    sequences, k, seed, epoch
        As in `mask`.
    masks : sequence of bool arrays, shape (n_tokens,)
        From `mask`.

    Returns
    -------
    list of int32 arrays, shape (n_tokens,)
        The input of a model.
    """
    token_ids, offsets, keys = _batch(encode(sequences, k), seed, epoch)
    masked = np.concatenate([np.zeros(0, np.bool_), *masks])
    return np.split(corrupt_batch(token_ids, offsets, masked, k=k, **keys)[0], offsets[1:-1])


def _batch(
    encoded: list[NDArray[np.int32]], seed: int, epoch: int
) -> tuple[NDArray[np.int32], NDArray[np.int64], dict[str, Any]]:
    """Concatenate sequences to a ragged batch; also return the keys of its draws."""
    n = len(encoded)
    offsets = np.cumsum([0, *(len(token_ids) for token_ids in encoded)], dtype=np.int64)
    keys = {"seed": seed, "epochs": np.full(n, epoch), "sequence_indices": np.arange(n)}
    return np.concatenate([np.zeros(0, np.int32), *encoded]), offsets, keys


def as_input(sequences: Sequences) -> Sequences:
    """Return a Path in place of a string that is the path of something that exists; anything else unchanged.

    A file named like DNA, such as `ACGT` in the current folder, is therefore read; give a list to avoid it.

    Raises
    ------
    InputError
        If a string has a dot or a slash, as no sequence has, and nothing of that name exists.
    """
    if not isinstance(sequences, str):
        return sequences
    if os.path.exists(sequences):  # noqa: PTH110 - False for text that is too long for a path
        return Path(sequences)
    if set("./\\") & set(sequences):
        raise InputError(
            f"{sequences[:80]!r} is neither a file that exists nor a DNA sequence; give the path of a FASTA, CSV or"
            " TSV file, or letters"
        )
    return sequences


def input_of(sequences: Sequences, model: Model, **options: Any) -> Input:
    """Return the surveyed input of a model."""
    sequences = as_input(sequences)
    tiling = tiling_options(model.tokenization, model.max_tokens, **options)
    if isinstance(sequences, Path | Source):
        return survey_input(Source(sequences) if isinstance(sequences, Path) else sequences, tiling)
    if isinstance(sequences, str):
        named = {"0": sequences}
    elif isinstance(sequences, Mapping):
        named = dict(sequences)
    else:
        named = {str(number): sequence for number, sequence in enumerate(sequences)}

    def chunks() -> Iterator[SequenceChunk]:
        for name, sequence in named.items():
            # A non-ASCII character counts as one letter that is not a base.
            yield SequenceChunk(name, sequence.encode("ascii", "replace"), True)

    counted = survey(checked_dna(chunks(), Path("input")), tiling)
    check_lengths(counted, tiling, "input")
    return Input("input", tiling, chunks, counted)
