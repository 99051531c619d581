"""Small model folders of other families, with random weights, as their authors publish them."""

from __future__ import annotations

import json
from itertools import product
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file
from tokenizers import Tokenizer, models, processors, trainers
from transformers import (
    BigBirdConfig,
    BigBirdForMaskedLM,
    EsmConfig,
    EsmForMaskedLM,
    ModernBertConfig,
    ModernBertForMaskedLM,
    RoFormerConfig,
    RoFormerForMaskedLM,
)

from cmgems_cli.modeling.dnabert2 import DnaBert2Config, DnaBert2ForSequenceClassification

WIDTH = {"hidden_size": 32, "num_attention_heads": 2, "num_hidden_layers": 2, "intermediate_size": 64}

NAMES = ("[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]")


def make_nucleotide_transformer(folder: Path) -> Path:
    """An ESM in the layout of Nucleotide Transformer 500M: 6-mers that do not overlap, `<cls>` in front only."""
    special = ["<unk>", "<pad>", "<mask>", "<cls>", "<eos>", "<bos>"]
    vocabulary = [*special, *("".join(letters) for letters in product("ATCG", repeat=6)), *"ATCGN"]
    config = EsmConfig(
        vocab_size=len(vocabulary),
        max_position_embeddings=1002,
        pad_token_id=1,
        mask_token_id=2,
        position_embedding_type="absolute",
        token_dropout=False,
        emb_layer_norm_before=False,
        **WIDTH,
    )
    _save(folder, EsmForMaskedLM, config)
    (folder / "vocab.txt").write_text("\n".join(vocabulary))
    tokens = {"cls_token": "<cls>", "mask_token": "<mask>", "pad_token": "<pad>", "unk_token": "<unk>"}
    settings = {"model_max_length": 1000, "tokenizer_class": "EsmTokenizer", "eos_token": None, **tokens}
    (folder / "tokenizer_config.json").write_text(json.dumps(settings))
    return folder


def make_bpe(folder: Path, kind: str = "modernbert") -> Path:
    """A ModernBERT, RoFormer or BigBird with byte-pair tokens of DNA, or a DNABERT-2."""
    folder.mkdir(parents=True, exist_ok=True)
    size = write_bpe_tokenizer(folder)
    ids = {"pad_token_id": 0, "cls_token_id": 2, "sep_token_id": 3, "bos_token_id": 2, "eos_token_id": 3}
    if kind == "modernbert":
        _save(
            folder,
            ModernBertForMaskedLM,
            ModernBertConfig(vocab_size=size, local_attention=16, **ids, **WIDTH),
        )
    elif kind == "roformer":
        _save(folder, RoFormerForMaskedLM, RoFormerConfig(vocab_size=size, pad_token_id=0, **WIDTH))
    elif kind == "big_bird":
        _save(folder, BigBirdForMaskedLM, BigBirdConfig(vocab_size=size, **ids, **WIDTH))
    else:
        make_dnabert2_weights(folder, size)
    return folder


def make_dnabert2_weights(folder: Path, vocab_size: int) -> None:
    """As its hub folder: code by name only, weights of the encoder under `bert.` with a masked-LM head."""
    config = DnaBert2Config(vocab_size=vocab_size, **WIDTH)
    torch.manual_seed(0)
    model = DnaBert2ForSequenceClassification(config)
    weights = {name: tensor for name, tensor in model.state_dict().items() if name.startswith("bert.")}
    weights["cls.predictions.decoder.bias"] = torch.zeros(vocab_size)
    save_file(weights, folder / "model.safetensors", {"format": "pt"})
    settings = {
        "model_type": "bert",
        "alibi_starting_size": 512,
        "auto_map": {"AutoConfig": "configuration_bert.BertConfig", "AutoModel": "bert_layers.BertModel"},
        "vocab_size": vocab_size,
        **WIDTH,
    }
    (folder / "config.json").write_text(json.dumps(settings))


def write_bpe_tokenizer(folder: Path) -> int:
    """Train byte-pair tokens on DNA and return their number."""
    generator = torch.Generator().manual_seed(5)
    text = ["".join("ACGT"[i] for i in torch.randint(0, 4, (400,), generator=generator)) for _ in range(20)]
    tokenizer = Tokenizer(models.BPE(unk_token="[UNK]"))
    tokenizer.train_from_iterator(text, trainers.BpeTrainer(vocab_size=80, special_tokens=list(NAMES)))
    tokenizer.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]", special_tokens=[("[CLS]", 2), ("[SEP]", 3)]
    )
    tokenizer.save(str(folder / "tokenizer.json"))
    names = dict(zip(("pad", "unk", "cls", "sep", "mask"), NAMES, strict=True))
    settings: dict[str, Any] = {"tokenizer_class": "PreTrainedTokenizerFast"}
    settings |= {f"{name}_token": token for name, token in names.items()}
    (folder / "tokenizer_config.json").write_text(json.dumps(settings))
    return tokenizer.get_vocab_size()


def _save(folder: Path, kind: Any, config: Any) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    torch.manual_seed(0)
    kind(config).save_pretrained(folder)
