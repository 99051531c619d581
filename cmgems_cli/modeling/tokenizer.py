"""Tokenizer files for the stock `AutoTokenizer`, with DNABERT's vocabulary order (method, section 1).

The pre-tokenizers and models of a `tokenizer.json` split text into parts that do not overlap, so they cannot
produce overlapping k-mers. Its normalizer, however, can rewrite the text by zero-width regular expressions
that insert letters. Here it spells out the k-mers before the split: `ACGTA` becomes `ACG CGT GTA`. A word of
exactly k letters stays unchanged, so raw sequences and DNABERT's space-separated k-mers both give the right
ids, in upper or lower case; a plain word-level tokenizer would turn a raw sequence into one `[UNK]`. It reads
some 10^5 tokens/s. The package itself encodes with `cmgems_cli.genome.codec`.

This module writes the JSON without the tokenizers library, whose version could change bytes.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from cmgems_cli.genome.vocabulary import BASES, CLS, SEP, SPECIAL_TOKENS, UNK, tokens

# Replaces every letter other than A, C, G and T; no k-mer of the vocabulary contains it.
_OTHER = "N"


def write_tokenizer(folder: Path, k: int, max_positions: int) -> list[str]:
    """Write the tokenizer of a model folder.

    Parameters
    ----------
    folder : Path
        An existing folder.
    k : int, bases
        Token length, 3 to 8.
    max_positions : int, tokens
        Longest input of the model including special tokens; longer inputs are truncated to it.

    Returns
    -------
    list of str
        The file names: `tokenizer.json`, `tokenizer_config.json`, and `vocab.txt` as in DNABERT for tools
        that read it. Equal `k` and `max_positions` give equal bytes.
    """
    names = dict(zip(("pad", "unk", "cls", "sep", "mask"), SPECIAL_TOKENS, strict=True))
    config = {
        # Known to transformers 4 and 5. A BertTokenizer would first apply its own, lower-casing normalizer.
        "tokenizer_class": "PreTrainedTokenizerFast",
        "model_max_length": max_positions,
        "do_lower_case": False,
        "clean_up_tokenization_spaces": False,
        "model_input_names": ["input_ids", "token_type_ids", "attention_mask"],
        **{f"{name}_token": token for name, token in names.items()},
    }
    texts = {
        "tokenizer.json": json.dumps(_tokenizer(k), indent=1),
        "tokenizer_config.json": json.dumps(config, indent=2),
        "vocab.txt": "\n".join(tokens(k)),
    }
    for name, text in texts.items():
        (folder / name).write_text(text + "\n", encoding="utf-8", newline="\n")
    return list(texts)


def _tokenizer(k: int) -> dict[str, Any]:
    """Return the content of `tokenizer.json`, in the format of the tokenizers library."""
    first, last = SPECIAL_TOKENS[CLS], SPECIAL_TOKENS[SEP]
    exact = {"single_word": False, "lstrip": False, "rstrip": False, "normalized": False, "special": True}
    sequence = [_special(first, 0), {"Sequence": {"id": "A", "type_id": 0}}, _special(last, 0)]
    second = [{"Sequence": {"id": "B", "type_id": 1}}, _special(last, 1)]
    return {
        "version": "1.0",
        "truncation": None,
        "padding": None,
        "added_tokens": [{"id": i, "content": token, **exact} for i, token in enumerate(SPECIAL_TOKENS)],
        "normalizer": {"type": "Sequence", "normalizers": _kmer_normalizers(k)},
        "pre_tokenizer": {"type": "WhitespaceSplit"},
        "post_processor": {
            "type": "TemplateProcessing",
            "single": sequence,
            "pair": sequence + second,
            "special_tokens": {
                token: {"id": token, "ids": [i], "tokens": [token]}
                for token, i in ((first, CLS), (last, SEP))
            },
        },
        "decoder": None,
        "model": {
            "type": "WordLevel",
            "vocab": {token: i for i, token in enumerate(tokens(k))},
            "unk_token": SPECIAL_TOKENS[UNK],
        },
    }


def _special(token: str, type_id: int) -> dict[str, Any]:
    return {"SpecialToken": {"id": token, "type_id": type_id}}


def _kmer_normalizers(k: int) -> list[dict[str, Any]]:
    """Rewrite every word as its overlapping k-mers; a word of fewer than k letters stays and is unknown.

    Inserted letters are lower case until the last step, to distinguish them from the letters of the sequence.
    """
    letters = BASES + _OTHER
    upper, lower = f"[{letters}]", f"[{letters.lower()}]"
    steps = [(base.lower(), base) for base in BASES]
    steps.append((rf"[^{BASES}\s]", _OTHER))
    # After each letter and those already inserted there, insert the letter that follows `ahead` letters later.
    for ahead in range(1, k):
        before = rf"(?<={upper}{lower}{{{ahead - 1}}})"
        between = rf"(?:{upper}{lower}*){{{ahead - 1}}}"
        steps += [(rf"{before}(?={between}{letter})", letter.lower()) for letter in letters]
    # No k-mer starts at the last k - 1 letters of a word: drop them, but never the first letter of a word.
    steps.append((rf"(?<={lower}){upper}{lower}{{0,{k - 2}}}(?!{lower})", ""))
    steps.append((rf"(?<={lower})(?={upper})", " "))
    steps += [(letter.lower(), letter) for letter in letters]
    return [
        {"type": "Replace", "pattern": {"Regex": pattern}, "content": content} for pattern, content in steps
    ]
