"""`cmgems show-masks`: what each strategy masks, in sequences and in figures."""

from __future__ import annotations

import shutil
import time
from itertools import groupby
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from cmgems_cli import workspace
from cmgems_cli.console import Console
from cmgems_cli.errors import InputError
from cmgems_cli.masking import RankBy, Strategy
from cmgems_cli.option_fields import option, same_option
from cmgems_cli.options import PMI_FOLDER, CorpusFolder, Shared, takes
from cmgems_cli.output_state import check_file
from cmgems_cli.palette import background_of, text_colour_on
from cmgems_cli.readable import duration
from cmgems_cli.training.pretrain_options import PretrainingOptions

if TYPE_CHECKING:
    from cmgems_cli.mask_viewer.samples import MaskSample
    from cmgems_cli.mask_viewer.summaries import Excerpt
    from cmgems_cli.mask_viewer.tally import MaskTally

# Eight heights of a bar; nothing at all is a space.
_BARS = " ▁▂▃▄▅▆▇█"

# Lines longer than this are hard to compare.
_WIDEST = 120

# An unmasked token.
_VISIBLE = "·"


@takes("seed overwrite json quiet config")
def show_masks(
    corpus: CorpusFolder = None,
    pmi: Path | None = PMI_FOLDER,
    strategies: str = option(
        "random,genemask,global", "--strategies", f"Some of {', '.join(one.label for one in Strategy)}."
    ),
    rank_by: Literal[RankBy, "both"] = option(
        "content",
        "--rank-by",
        "How ranks are looked up: by k-mer, by position as in the released code, or both, side by side.",
    ),
    mask_rate: float = same_option(PretrainingOptions, "mask_rate", panel=None),
    show: int = option(3, "--show", "Sequences to show.", min=0),
    sequences: int = option(5000, "--sequences", "Sequences to count over.", min=1),
    html: Path | None = option(
        None, "--html", "HTML page to write, with whole sequences and curves.", shown="none"
    ),
    *,
    io: Shared,
) -> None:
    """Show what each masking strategy masks, in a few sequences and in figures.

    These are the first sequences, and the masks, of a pretraining run with this seed.

    Example: cmgems show-masks --rank-by both --html masks.html
    """
    started = time.perf_counter()
    console = io.console()
    if html is not None:
        check_file(html, overwrite=io.overwrite, reads=[corpus, pmi])
    from cmgems_cli.mask_viewer.samples import mask_variants_of
    from cmgems_cli.mask_viewer.summaries import as_object, excerpts

    variants = mask_variants_of(strategies, rank_by)
    sample = _open(
        console, corpus, pmi, variants, n_sequences=max(sequences, show), mask_rate=mask_rate, seed=io.seed
    )
    with console.progress("masking", len(sample.sequence_indices), "sequences") as bar:
        tally = sample.tally(bar.advance)
    label = max(len("tenth"), *(len(variant.name) for variant in variants)) + 2
    width = min(_WIDEST, shutil.get_terminal_size().columns) - 1
    shown = excerpts(sample, show, max(10, width - label))
    if html is not None:
        from cmgems_cli.mask_viewer.masks_page import write_page

        write_page(html, sample, tally, excerpts(sample, show, None))
    console.result(
        {
            **as_object(sample, tally, shown, n_groups=100),
            "html": None if html is None else str(html),
            "elapsed_s": round(time.perf_counter() - started, 3),
        }
    )
    _show_excerpts(console, sample, shown, label)
    _show_figures(console, sample, tally, label, width - label)
    console.say(
        f"{tally.sequences:,} sequences masked by {len(variants)} variants in {duration(time.perf_counter() - started)}"
    )
    if html is not None:
        console.say(f"page written to {html}")


def _open(
    console: Console,
    corpus: Path | None,
    pmi: Path | None,
    variants: list[Any],
    *,
    n_sequences: int,
    mask_rate: float,
    seed: int,
) -> MaskSample:
    """Open the corpus and, if a strategy uses ranks, the ranking."""
    from cmgems_cli.genome.corpus import Corpus
    from cmgems_cli.mask_viewer.samples import MaskSample
    from cmgems_cli.pmi.ranking import no_ranks, origin_note, read_ranking

    opened = Corpus.open(corpus or workspace.corpus_folder())
    if not opened.n_train:
        raise InputError(f"{opened.folder} has no training sequences; make it with a lower --valid-share")
    rank_of_token = no_ranks(opened.k)
    if pmi is not None or any(variant.uses_ranks for variant in variants):
        folder = pmi or workspace.pmi_folder()
        ranking = read_ranking(folder, opened.k)
        rank_of_token = ranking.rank_of_token
        if note := origin_note(folder, ranking.manifest, opened.folder, opened.manifest):
            console.warn(note)
    return MaskSample.of_run(
        opened, rank_of_token, variants, n_sequences=n_sequences, mask_rate=mask_rate, seed=seed
    )


def _show_excerpts(console: Console, sample: MaskSample, shown: list[Excerpt], label: int) -> None:
    """Print each excerpt: bases, ranks, and the masks of each variant below them."""
    if not shown:
        return
    ranked = any((one.tenths >= 0).any() for one in shown)
    console.lines([[("example sequences (most heavily masked region)", "bold")], *_legend(sample, ranked)])
    for one in shown:
        end = one.first + len(one.bases)
        tenths = one.tenths.tolist()
        every = [True] * len(tenths)
        rows = [("bases", one.bases, every)] + [("tenth", _digits(tenths), every)] * ranked
        for variant, masked in zip(sample.variants, one.masks, strict=True):
            flags = masked.tolist()
            letters = "".join(
                base if hidden else _VISIBLE for base, hidden in zip(one.bases, flags, strict=True)
            )
            rows.append((variant.name, letters, flags))
        title = f"{one.number}  {one.interval}, tokens {one.first}-{end} of {one.n_tokens}"
        console.lines(
            [[("", "")], [(title, "")]]
            + [[(name.ljust(label), ""), *_coloured(text, tenths, flags)] for name, text, flags in rows]
        )
    console.lines([[("", "")]])


def _legend(sample: MaskSample, ranked: bool) -> list[list[tuple[str, str]]]:
    letters = f"a letter is the first base of a masked {sample.corpus.k}-mer, {_VISIBLE} a visible one"
    if not ranked:
        return [[(letters, "")]]
    tenths = list(range(10))
    colours = _coloured(_digits(tenths), tenths, [True] * 10)
    return [[(letters, "")], [("tenth of the NPMI ranking: best ", ""), *colours, (" worst", "")]]


def _digits(tenths: list[int]) -> str:
    return "".join(str(tenth) if tenth >= 0 else "-" for tenth in tenths)


def _coloured(text: str, tenths: list[int], flags: list[bool]) -> list[tuple[str, str]]:
    """Return pieces of `text`, coloured by tenth where `flags` say so, dim elsewhere."""
    styles = [_style(tenth) if flag else "dim" for tenth, flag in zip(tenths, flags, strict=True)]
    pieces = []
    for style, run in groupby(zip(text, styles, strict=True), key=lambda pair: pair[1]):
        pieces.append(("".join(letter for letter, _ in run), style))
    return pieces


def _style(tenth: int) -> str:
    background = background_of(tenth)
    return f"{text_colour_on(background)} on {background}"


def _show_figures(console: Console, sample: MaskSample, tally: MaskTally, label: int, width: int) -> None:
    """Print the tables, and the fractions along the sequence and along the ranking."""
    from cmgems_cli.mask_viewer.summaries import extreme_rows, overlap_rows, summary_rows
    from cmgems_cli.mask_viewer.tally import LEAST_SEEN

    names = [variant.name for variant in sample.variants]
    # Two lines each: five variants fit in 80 columns.
    heads = ["", *(name.replace(" (", "\n(") for name in names)]
    title = f"{tally.sequences:,} sequences, {tally.tokens:,} tokens, mask rate {sample.mask_rate:g}"
    console.table(title, heads, summary_rows(tally))
    positions = _binned(tally.position_fraction(), width)
    _show_profile(
        console,
        "fraction masked along the sequence",
        names,
        positions,
        label,
        ("position 0", f"{len(tally.seen_at_position) - 1:,}"),
    )
    if any(variant.uses_ranks for variant in sample.variants):
        ranks = tally.rank_fraction(sample.rank_of_token, min(width, 4**tally.k)).tolist()
        _show_profile(
            console, "fraction masked along the NPMI ranking", names, ranks, label, ("best", "worst")
        )
    console.table(
        f"k-mers masked most and least, of those seen {LEAST_SEEN} times or more",
        heads,
        extreme_rows(tally),
    )
    if len(names) > 1:
        title = "fraction of the row's masked tokens that the column masks too"
        console.table(title, heads, overlap_rows(sample, tally))


def _binned(fractions: Any, width: int) -> list[list[float]]:
    """Average the columns of `fractions` over `width` bins of about equal length, ignoring NaN."""
    import numpy as np

    parts = np.array_split(np.arange(fractions.shape[1]), min(width, fractions.shape[1]))
    return [[float(np.nanmean(row[part])) for part in parts] for row in fractions]


def _show_profile(
    console: Console,
    title: str,
    names: list[str],
    fractions: list[list[float]],
    label: int,
    ends: tuple[str, str],
) -> None:
    """Print one line of bars per variant, all on one scale."""
    top = max([fraction for row in fractions for fraction in row if fraction == fraction], default=0.0) or 1.0
    lines = [[(f"{title} (█ is {100 * top:.0f} %)", "bold")]]
    for name, row in zip(names, fractions, strict=True):
        # Rounded up: the least fraction shows.
        bars = "".join(_BARS[-int(-8 * fraction // top)] if fraction == fraction else " " for fraction in row)
        lines.append([(name.ljust(label) + bars, "")])
    between = max(1, max(map(len, fractions)) - len(ends[0]) - len(ends[1]))
    lines.append([(" " * label + ends[0] + " " * between + ends[1], "dim")])
    console.lines([*lines, [("", "")]])
