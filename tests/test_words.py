"""Plain English: phrases that a contributor would not write do not come back (docs/glossary.md has the terms)."""

import re
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).resolve().parents[1]

_COUNTED = (
    "rows|sequences|tokens|bases|labels|classes|bytes|MB|GB|times|steps|runs|records|lines|windows|k-mers"
)
_UNITS = (
    "step|second|minute|class|sequence|row|token|base|batch|run|model|task|genome|process|line|k-mer|label"
)

# What to write instead, by the pattern of what not to write.
PHRASES = {
    r"\b(go|goes|going|gone|went) on\b": "resume, continue",
    r"\bbut for\b": "except for",
    r"(?<!there )\b(is|are) none\b": "is not, are not",
    r"(?<![Tt]here )\b(is|are) no (?!longer)": "is not a, there is no",
    r"\btold\b": "called with, classified",
    r"\bnobody\b": "no one, or the passive",
    r"\bgone\b": "missing, elapsed",
    r"\bbeside\b": "next to, with, compared with",
    r"\b(lie|lies|lay out|laid out|lays out)\b": "is, collate",
    r"\b(stretch|stretches)\b": "run, interval",
    r"\bone's own\b": "your own, custom",
    r"\bas it was\b": "unchanged",
    r"\b[Tt]ells? whether\b": "return whether, say whether",
    rf"\b({_COUNTED}) an? ({_UNITS})\b": "per",
}

# History, and the text that other projects wrote.
LEFT_OUT = {"docs/log.md"}


def texts() -> list[Path]:
    paths = [REPOSITORY / "README.md", *(REPOSITORY / "docs").rglob("*.md")]
    paths += (REPOSITORY / "cmgems_cli").rglob("*.py")
    return [path for path in paths if str(path.relative_to(REPOSITORY)) not in LEFT_OUT]


def occurrences(pattern: str, text: str) -> list[str]:
    return [line.strip() for line in text.splitlines() if re.search(pattern, line)]


@pytest.mark.parametrize(("pattern", "better"), PHRASES.items())
def test_texts_are_in_plain_words(pattern: str, better: str) -> None:
    lines = [
        f"{path.relative_to(REPOSITORY)}: {line}"
        for path in texts()
        for line in occurrences(pattern, path.read_text(encoding="utf-8"))
    ]
    assert not lines, f"write {better!r} instead:\n" + "\n".join(lines)


@pytest.mark.parametrize(
    ("line", "found"),
    [
        ("The run goes on from its checkpoint.", 1),
        ("A file that is no table; 10 rows a class.", 2),
        ("There is no file; it is no longer here; if there are none, there is no error.", 0),
        ("The rest is none of these.", 1),
        ("It takes a step per batch.", 0),
    ],
)
def test_phrases_are_found(line: str, found: int) -> None:
    assert sum(len(occurrences(pattern, line)) for pattern in PHRASES) == found
