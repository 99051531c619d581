"""cmgems: curriculum masking for genome language models (CM-GEMS, ECAI 2024).

The Python API can be imported from here, and from `cmgems`, the same under the name of the distribution. Stages, as
the commands: `prepare_genome`, `build_pmi`, `pretrain`, `finetune`, `evaluate`, `read_scores`, `ttest`, `report`.
Models and sequences: `load_model`, `encode`, `regions`, `predict`, `embed`, `explain`, `score_variants`,
`load_ranking`, `mask`, `corrupt`.
"""

from __future__ import annotations

# Without `typing`, whose import would keep the command line from handling signals for some milliseconds.
TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from cmgems_cli.comparing.python_api import read_scores, ttest
    from cmgems_cli.explaining.python_api import explain
    from cmgems_cli.inference.python_api import (
        corrupt,
        embed,
        encode,
        load_model,
        load_ranking,
        mask,
        predict,
        regions,
    )
    from cmgems_cli.pipeline import (
        build_pmi,
        evaluate,
        finetune,
        prepare_genome,
        pretrain,
        report,
    )
    from cmgems_cli.variants.python_api import score_variants

__version__ = "0.1.0"
__all__ = [
    "build_pmi",
    "corrupt",
    "embed",
    "encode",
    "evaluate",
    "explain",
    "finetune",
    "load_model",
    "load_ranking",
    "mask",
    "predict",
    "prepare_genome",
    "pretrain",
    "read_scores",
    "regions",
    "report",
    "score_variants",
    "ttest",
]

# Where those are that `cmgems_cli.pipeline` lacks.
_ELSEWHERE = {
    **dict.fromkeys(("read_scores", "ttest"), "cmgems_cli.comparing.python_api"),
    "explain": "cmgems_cli.explaining.python_api",
    "score_variants": "cmgems_cli.variants.python_api",
    **dict.fromkeys(
        ("corrupt", "embed", "encode", "load_model", "load_ranking", "mask", "predict", "regions"),
        "cmgems_cli.inference.python_api",
    ),
}


def __getattr__(name: str) -> Any:
    """Load the Python API when it is first asked for: the command line starts without torch."""
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from importlib import import_module

    return getattr(import_module(_ELSEWHERE.get(name, "cmgems_cli.pipeline")), name)


def __dir__() -> list[str]:
    return sorted([*globals(), *__all__])
