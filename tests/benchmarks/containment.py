"""How long near-duplicates take to find: `datasets.containment` on tasks of labelled sequences.

    python tests/benchmarks/containment.py GUE/prom/prom_core_all GUE/tf/0

For each folder with train, dev and test, processor time (one core) of: reading, counting the leakage, clustering all
rows. Compiled code is loaded first.
"""

from __future__ import annotations

import sys
import time
from pathlib import Path

import numpy as np

from cmgems_cli.datasets.benchmark import SPLITS
from cmgems_cli.datasets.containment import clusters
from cmgems_cli.datasets.leakage import leakage, leakage_note
from cmgems_cli.datasets.splits import read_splits
from cmgems_cli.datasets.task_files import find_split


def main() -> None:
    leakage({"train": [b"ACGTTGCA" * 9], "test": [b"ACGTTGCA" * 9]})
    print("task                      rows   read  leakage  clusters  number  largest")
    for folder in map(Path, sys.argv[1:]):
        started = time.process_time()
        tables = read_splits({split: find_split(folder, split) for split in SPLITS}).tables
        rows = {split: table.sequences() for split, table in tables.items()}
        read = time.process_time()
        counted = leakage(rows)
        leaked = time.process_time()
        sizes = np.bincount(clusters([one for part in rows.values() for one in part]))
        ended = time.process_time()
        print(
            f"{'/'.join(folder.parts[-2:]):<22} {sizes.sum():>7,} {read - started:5.2f}s {leaked - read:7.2f}s"
            f" {ended - leaked:8.2f}s {len(sizes):>7,} {sizes.max():>8,}"
        )
        print(f"  {leakage_note(counted)}")


if __name__ == "__main__":
    main()
