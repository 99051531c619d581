"""A planted truth: of all variants, those that break the motif a classifier was fine-tuned on are ranked first."""

from pathlib import Path

import numpy as np
from sklearn.metrics import roc_auc_score

import cmgems_cli
from tests.planted import MOTIF, background, other_strand, plant


def test_variants_that_break_the_motif_are_ranked_first(planted: Path, tmp_path: Path) -> None:
    draw = np.random.default_rng(5)
    genome, sites = background(draw, 2000), range(150, 1900, 150)
    for number, site in enumerate(sites):
        genome = plant(genome, site, (MOTIF, other_strand(MOTIF))[number % 2])
    (tmp_path / "genome.fa").write_text(f">chr1\n{genome}\n")
    broken = {at for site in sites for at in range(site, site + len(MOTIF))}
    places = sorted(broken | set(draw.integers(60, 1940, 200).tolist()))
    variants = [
        ("1", at + 1, genome[at], "ACGT"[("ACGT".index(genome[at]) + int(draw.integers(1, 4))) % 4])
        for at in places
    ]
    model = cmgems_cli.load_model(planted, device="cpu")
    scores = cmgems_cli.score_variants(model, variants, tmp_path / "genome.fa")
    assert scores.reasons == [None] * len(variants)
    truth = [at in broken for at in places]
    assert roc_auc_score(truth, -scores.scores[:, 0]) >= 0.98
    # The control ranks them no better than chance would.
    assert abs(roc_auc_score(truth, -scores.composition) - 0.5) < 0.1
