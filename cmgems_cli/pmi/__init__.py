"""The ranking of all k-mers by normalised PMI. This module is light, so that commands can offer its names."""

from typing import Literal, get_args

# As in the paper's equations, or as in the authors' published ranking (method, section 3).
Definition = Literal["paper", "released"]
DEFINITIONS: tuple[Definition, ...] = get_args(Definition)
