"""What the site's build adds to MkDocs: the version in the title, and equations as MathML, which browsers typeset."""

import html
import re
import tomllib
from pathlib import Path
from typing import Any

from latex2mathml.converter import convert

# As `pymdownx.arithmatex` marks them up with `generic`: the inner text is escaped LaTeX.
EQUATION = re.compile(
    r'<(?:span|div) class="arithmatex">\\([(\[])(.*?)\\[)\]]</(?:span|div)>', flags=re.DOTALL
)


def on_config(config: Any) -> Any:
    """Add the package's version to the name of the site."""
    text = Path(config["config_file_path"]).with_name("pyproject.toml").read_text(encoding="utf-8")
    config["site_name"] = f"cmgems {tomllib.loads(text)['project']['version']}"
    return config


def on_page_content(content: str, **_: Any) -> str:
    """Replace the LaTeX of a page's HTML by MathML."""

    def typeset(match: re.Match[str]) -> str:
        display = "block" if match[1] == "[" else "inline"
        return convert(html.unescape(match[2]).strip(), display=display)

    return EQUATION.sub(typeset, content)
