"""cmgems: curriculum masking for genome language models (CM-GEMS, ECAI 2024).

For notebooks: `load_model`, `encode`, `regions`, `predict`, `embed`, `explain`, `score_variants`, `load_ranking`,
`mask` and `corrupt` can be imported from here (python_api.py in cmgems_cli/inference, explaining and variants documents
them; examples/notebook.py shows them at work).
"""

from __future__ import annotations

# Without `typing`, whose import would keep the command line from handling signals for some milliseconds.
TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

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
    from cmgems_cli.variants.python_api import score_variants

__version__ = "0.1.0"
__all__ = [
    "corrupt",
    "embed",
    "encode",
    "explain",
    "load_model",
    "load_ranking",
    "mask",
    "predict",
    "regions",
    "score_variants",
]

# Where those are that the API's own module lacks.
_ELSEWHERE = {
    "explain": "cmgems_cli.explaining.python_api",
    "score_variants": "cmgems_cli.variants.python_api",
}


def __getattr__(name: str) -> Any:
    """Load the Python API when it is first asked for: the command line starts without torch."""
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from importlib import import_module

    return getattr(import_module(_ELSEWHERE.get(name, "cmgems_cli.inference.python_api")), name)


def __dir__() -> list[str]:
    return sorted([*globals(), *__all__])
