"""A planted truth: the motif that a classifier was fine-tuned to find has nearly all of the importance."""

from pathlib import Path

import numpy as np

from cmgems_cli import explain, load_model
from tests.planted import LENGTH, MOTIF, background, other_strand, plant


def test_the_importance_is_on_the_planted_motif(planted: Path) -> None:
    draw = np.random.default_rng(9)
    sites = [int(draw.integers(0, LENGTH - len(MOTIF) + 1)) for _ in range(12)]
    motifs = [(MOTIF, other_strand(MOTIF))[number % 2] for number in range(12)]
    sequences = [plant(background(draw, LENGTH), at, motif) for at, motif in zip(sites, motifs, strict=True)]
    found = explain(load_model(planted, device="cpu"), sequences)

    def share(values: list[np.ndarray]) -> float:
        """The part that the motif's bases have in the sum over all bases of all sequences."""
        on_motif = sum(one[at : at + len(MOTIF)].sum() for one, at in zip(values, sites, strict=True))
        return float(on_motif / sum(one.sum() for one in values))

    # Of what supports the class, and of all importance whatever its sign.
    assert share([np.maximum(one.importance, 0) for one in found]) >= 0.95
    assert share([np.abs(one.importance) for one in found]) >= 0.92
