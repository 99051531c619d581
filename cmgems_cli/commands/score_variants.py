"""`cmgems score-variants`: how much each variant changes what a model says."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from cmgems_cli.console import Bar, Console
from cmgems_cli.errors import UsageError
from cmgems_cli.inference.inference_options import InferenceOptions
from cmgems_cli.modeling.model_source import check_order
from cmgems_cli.option_fields import Precision, option, same_option
from cmgems_cli.options import Shared, takes
from cmgems_cli.readable import duration, rate
from cmgems_cli.variants.variant_options import VariantFormat, VariantOptions

if TYPE_CHECKING:
    from cmgems_cli.variants.scorers import Scorer
    from cmgems_cli.variants.scoring import VariantTally
    from cmgems_cli.variants.survey import VariantSurvey


@takes("out device overwrite resume json quiet config", out="stdout")
def score_variants(
    model: Annotated[
        Path,
        typer.Argument(
            metavar="MODEL",
            help="Classifier, or masked language model of overlapping k-mers.",
            show_default=False,
        ),
    ],
    variants: Annotated[
        Path,
        typer.Argument(
            metavar="VARIANTS",
            help="VCF, or CSV or TSV with columns chrom, pos, ref, alt; plain or gzip; - for standard input.",
            show_default=False,
            allow_dash=True,
        ),
    ],
    *,
    genome: Path | None = option(
        None, "--genome", "FASTA of the genome that the variants were called on.", shown="none: needed"
    ),
    options: VariantOptions,
    kind: VariantFormat | None = option(
        None, "--format", "Format of the result.", shown="by the name of --out; tsv on stdout"
    ),
    max_batch_tokens: int | None = same_option(InferenceOptions, "max_batch_tokens"),
    precision: Precision = same_option(InferenceOptions, "precision"),
    io: Shared,
) -> None:
    """Score variants by the change they make to a model's output, in input order.

    A classifier: the change in log-odds of a class or label, or in the value of
    a regression, from the window with the reference allele to that with the
    alternative. A masked language model,
    without any training: the log-likelihood ratio of the alleles with every
    k-mer hidden that contains them; substitutions only. Both are means of the
    two strands. The column composition is a control: what base composition
    alone would give. An allele that cannot be scored keeps its row, and the
    reason is in it.

    Example: cmgems score-variants finetuned/prom calls.vcf.gz --genome hg38.fa --out scored.vcf
    """
    started = time.perf_counter()
    console = io.console()
    if io.json and io.out is None:
        raise UsageError("--json prints one object on stdout, where the scores would go: give --out too")
    check_order(model, variants, "VARIANTS")
    if genome is None:
        raise UsageError("--genome FASTA is missing: give the genome that the variants were called on")
    from cmgems_cli.genome.random_access import GenomeFile
    from cmgems_cli.inference.resumable_output import check_files, partial_files
    from cmgems_cli.variants.scoring import finder_of, load_scorer, write_scores
    from cmgems_cli.variants.survey import survey_variants
    from cmgems_cli.variants.variant_files import VariantFile
    from cmgems_cli.variants.variant_output import VcfHeader, block_writer, variant_format

    form = variant_format(io.out, kind)
    if io.out is not None:
        check_files([io.out], overwrite=io.overwrite, reads=[model, variants, genome])
    file = VariantFile(variants)
    scorer = load_scorer(
        model, options, device=io.device, precision=precision, max_batch_tokens=max_batch_tokens
    )
    with GenomeFile(genome) as opened:
        if opened.copied:
            console.say(
                f"{genome} was unpacked to a temporary file; plain FASTA with even lines opens faster"
            )
        finder = finder_of(scorer, opened, options)
        counted = survey_variants(file, finder) if file.rereadable else None
        _announce(console, scorer, file.name, finder.window, counted)
        settings = {
            "model": scorer.model.digest,
            "genome_sha256": opened.sha256,
            "window": finder.window,
            "label": options.label,
            "max_allele": options.max_allele,
        }
        header = VcfHeader(lambda: file.header, opened.contigs, settings)
        began = time.perf_counter()
        with _progress(console, counted, to_screen=io.out is None) as (bar, advance):
            if io.out is None:
                with block_writer(form, console.stdout(), scorer.columns, header) as write:
                    tally = write_scores(scorer, finder, file, write, advance=advance)
            else:
                task = {
                    **settings,
                    "variants_sha256": file.sha256,
                    "format": form,
                    "device": scorer.model.device.type,
                    "precision": scorer.model.precision,
                    "max_batch_tokens": scorer.model.max_batch_tokens,
                }
                with partial_files([io.out], task if counted else None, resume=io.resume) as partial:
                    before = (partial.blocks, partial.saved) if partial.blocks else None
                    if before:
                        bar.start_at(partial.saved["alleles"])
                    stream, begun = partial.streams[0], before is not None
                    with block_writer(form, stream, scorer.columns, header, begun=begun) as write:
                        tally = write_scores(
                            scorer,
                            finder,
                            file,
                            write,
                            before=before,
                            block_done=partial.block_done,
                            advance=advance,
                        )
        seconds, fresh = time.perf_counter() - began, tally.alleles - int(bar.skipped)
    _close(console, scorer, tally, counted, fresh, seconds, io.out)
    console.result(
        {
            **settings,
            "variants_sha256": file.sha256,
            "columns": [column.name for column in scorer.columns],
            "records": tally.records,
            "alleles": tally.alleles,
            "scored": tally.scored,
            "without_score": tally.reasons,
            "correlation_with_composition": tally.correlation,
            "device": str(scorer.model.device),
            "precision": scorer.model.precision,
            "alleles_per_s": round(fresh / max(seconds, 1e-9), 1),
            "out": str(io.out),
            "elapsed_s": round(time.perf_counter() - started, 3),
        }
    )


def _announce(
    console: Console, scorer: Scorer, name: str, window: int, counted: VariantSurvey | None
) -> None:
    """Report the model and the variants; warn about what may be wrong with them."""
    model = scorer.model
    setup = (
        f"{model.parameters:,} parameters on {model.device} in {model.precision}; {name} in windows of up to"
        f" {window:,} bases"
    )
    if counted is None:
        console.say(setup)
        return
    console.say(
        f"{setup}: {counted.records:,} record(s), {counted.scored:,} of {counted.alleles:,} allele(s) to score"
    )
    if model.trained_tokens:
        trained = model.tokenization.most_bases(model.trained_tokens)
        if window > trained:
            console.warn(
                f"windows of {window:,} bases, but the classifier was fine-tuned on {trained:,} at most: its"
                " predictions for longer ones are unreliable"
            )
    if counted.renamed:
        pairs = [f"{one} → {other}" for one, other in list(counted.renamed.items())[:4]]
        more = ", …" if len(counted.renamed) > 4 else ""
        console.say(
            f"contigs have other names in the genome, matched by chromosome: {', '.join(pairs)}{more}"
        )
    if counted.unsorted:
        console.say(f"{name} is not sorted by position; rows keep its order")
    if 2 * counted.reasons["ref_mismatch"] > counted.alleles:
        console.warn("most reference alleles are not what the genome has: it may be another assembly")


def _close(
    console: Console,
    scorer: Scorer,
    tally: VariantTally,
    counted: VariantSurvey | None,
    fresh: int,
    seconds: float,
    out: Path | None,
) -> None:
    """Report the speed, the alleles without a score and the control."""
    from cmgems_cli.variants.alleles import WORDS

    for reason, count in tally.reasons.items():
        example = counted.examples.get(reason) if counted else None
        console.warn(
            f"{count:,} allele(s) without a score, {reason}: {WORDS[reason]}"
            + (f" (the first: {example})" if example else "")
        )
    if (r := tally.correlation) is not None:
        name = scorer.columns[0].name
        console.say(f"correlation of {name} with composition, the control: r = {r:.3f}")
    words = f"{fresh:,} allele(s) in {duration(seconds)} ({fresh / max(seconds, 1e-9):,.0f} per second)"
    if fresh < tally.alleles:
        words += f"; {tally.alleles:,} with the {tally.alleles - fresh:,} of the earlier run"
    console.say(words if out is None else f"{words}, written to {out}")


@contextmanager
def _progress(
    console: Console, counted: VariantSurvey | None, *, to_screen: bool
) -> Iterator[tuple[Bar, Callable[[float], None]]]:
    """Show progress and speed, unless the results go to the screen."""
    total = counted.alleles if counted else 0
    if to_screen and sys.stdout.isatty():
        quiet: Any = Bar("scoring", total, "alleles")
        yield quiet, lambda alleles: None
        return
    with console.progress("scoring", total, "alleles") as bar:
        yield bar, lambda alleles: bar.advance(alleles, note=rate(bar.rate(alleles), "alleles"))
