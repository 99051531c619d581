"""Downloads of public data and weights. This module is light, so that commands can offer its names."""

from typing import Literal, get_args

SourceName = Literal["grch38", "gue", "dnabert6", "model"]
SOURCES: tuple[SourceName, ...] = get_args(SourceName)
