"""A planted truth: of all variants, those that break the motif a classifier was fine-tuned on are ranked first."""

from pathlib import Path

import numpy as np
from sklearn.metrics import roc_auc_score

import cmgems_cli
from tests.command_line import CommandLine
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


def test_predict_finds_the_motif_on_either_strand(cmgems: CommandLine, planted: Path, tmp_path: Path) -> None:
    draw = np.random.default_rng(6)
    genome, sites = background(draw, 1000), range(100, 1000, 200)
    for number, site in enumerate(sites):
        genome = plant(genome, site, (MOTIF, other_strand(MOTIF))[number % 2])
    (tmp_path / "genome.fa").write_text(f">chr1\n{genome}\n")
    options = ("--window", "60", "--stride", "25", "--strand", "both", "--min-prob", "0.8", "--merge")
    text = cmgems("predict", planted, tmp_path / "genome.fa", *options, "--format", "bed").stdout
    hits = [line.split("\t") for line in text.splitlines()]
    for strand in "+-":
        spans = [(int(hit[1]), int(hit[2])) for hit in hits if hit[5] == strand]
        for site in sites:
            assert any(start <= site and site + len(MOTIF) <= end for start, end in spans), (strand, site)
        assert len(spans) <= len(sites) + 2
    assert {hit[3] for hit in hits} == {"1"}
    assert all(800 <= int(hit[4]) <= 1000 for hit in hits)
