"""Rate and peak memory of `score-variants` over random substitutions of a genome, and a run killed and resumed.

    python tests/benchmarks/variants.py chr20.fa --variants 100000 --window 101

The model is a preset with random weights: speed does not depend on them. The second run is ended by SIGKILL once it has
written a third of the rows; resumed, it must leave the bytes of the first.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from cmgems_cli.genome.random_access import GenomeFile
from cmgems_cli.modeling.folder import save_model
from cmgems_cli.modeling.masked_lm import load_masked_lm
from cmgems_cli.modeling.model_source import ModelSource

SEED = 1
COLUMNS = "#CHROM\tPOS\tID\tREF\tALT\tQUAL\tFILTER\tINFO"


def write_variants(path: Path, fasta: Path, n: int) -> None:
    """Write sorted random substitutions of the first record, with the right reference alleles."""
    draw = np.random.default_rng(SEED)
    with GenomeFile(fasta) as genome, path.open("w") as out:
        contig, length = next(iter(genome.contigs.items()))
        letters = np.frombuffer(genome.letters(contig, 0, length), np.uint8)
        known = np.flatnonzero(np.isin(letters, np.frombuffer(b"ACGT", np.uint8)))
        out.write(f"##fileformat=VCFv4.3\n{COLUMNS}\n")
        for at in np.sort(draw.choice(known, n, replace=False)):
            ref = chr(letters[at])
            alt = "ACGT"[("ACGT".index(ref) + draw.integers(1, 4)) % 4]
            out.write(f"{contig}\t{at + 1}\t.\t{ref}\t{alt}\t.\t.\t.\n")


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("fasta", type=Path)
    parser.add_argument("--variants", type=int, default=100_000)
    parser.add_argument("--model", default="tiny")
    parser.add_argument("--window", type=int, default=101)
    parser.add_argument("--device", default="cpu")
    asked = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        write_variants(folder / "calls.vcf", asked.fasta, asked.variants)
        (folder / "model").mkdir()
        save_model(folder / "model", *load_masked_lm(ModelSource(asked.model)))
        words = [sys.executable, "-m", "cmgems_cli", "score-variants", folder / "model", folder / "calls.vcf"]
        words += [
            "--genome",
            asked.fasta,
            "--window",
            asked.window,
            "--device",
            asked.device,
            "--json",
            "--out",
        ]

        def start(out: str) -> subprocess.Popen[str]:
            command = [str(word) for word in (*words, folder / out)]
            return subprocess.Popen(command, stdout=subprocess.PIPE, text=True)

        result = json.loads(start("whole.vcf").communicate()[0])
        used = resource.getrusage(resource.RUSAGE_CHILDREN)
        print(f"{result['scored']:,} alleles, {result['alleles_per_s']:,} per second of wall time")
        print(
            f"{used.ru_utime + used.ru_stime:.0f} s of CPU in all, peak memory {used.ru_maxrss / 1024:.0f} MB"
        )
        third = (folder / "whole.vcf").stat().st_size // 3
        process = start("resumed.vcf")
        while process.poll() is None:
            written = [path.stat().st_size for path in folder.glob(".resumed.vcf.*.staging/**/resumed.vcf")]
            if written and written[0] > third:
                process.kill()
            time.sleep(0.05)
        print(f"killed: exit code {process.returncode}")
        resumed = json.loads(start("resumed.vcf").communicate()[0])
        same = (folder / "whole.vcf").read_bytes() == (folder / "resumed.vcf").read_bytes()
        print(
            f"resumed: {resumed['scored']:,} alleles, the same bytes: {same}; load average {os.getloadavg()}"
        )


if __name__ == "__main__":
    main()
