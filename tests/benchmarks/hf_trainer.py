"""The peer of finetuning.py: a classifier fine-tuned with the Hugging Face Trainer, as its guides show it.

Nothing of this package is used: the tokenizer pads each batch to its longest row, the Trainer does the
rest with its own defaults. Prints one JSON object. Needs `pip install accelerate`, which the Trainer
imports and this package does not.
"""

from __future__ import annotations

import argparse
import csv
import json
from pathlib import Path
from typing import Any

import torch
from sklearn.metrics import accuracy_score, matthews_corrcoef
from transformers import (
    AutoModelForSequenceClassification,
    AutoTokenizer,
    DataCollatorWithPadding,
    Trainer,
    TrainingArguments,
)

K = 6


class Rows(torch.utils.data.Dataset[dict[str, Any]]):
    """One split of `sequence,label` rows, tokenized at once."""

    def __init__(self, path: Path, tokenizer: Any, max_length: int) -> None:
        with path.open(newline="", encoding="utf-8") as stream:
            rows = list(csv.DictReader(stream))
        texts = [
            " ".join(row["sequence"][i : i + K].upper() for i in range(len(row["sequence"]) - K + 1))
            for row in rows
        ]
        self.encoded = tokenizer(texts, truncation=True, max_length=max_length)
        self.labels = [int(row["label"]) for row in rows]

    def __len__(self) -> int:
        return len(self.labels)

    def __getitem__(self, row: int) -> dict[str, Any]:
        return {"labels": self.labels[row], **{name: values[row] for name, values in self.encoded.items()}}


def main() -> None:
    """Train, take the best model by dev loss, test it once."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("model", type=Path)
    parser.add_argument("data", type=Path)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--steps", type=int, required=True)
    parser.add_argument("--warmup-steps", type=int, required=True)
    parser.add_argument("--eval-every", type=int, required=True)
    parser.add_argument("--lr", type=float, required=True)
    parser.add_argument("--weight-decay", type=float, required=True)
    parser.add_argument("--batch", type=int, required=True)
    parser.add_argument("--max-length", type=int, required=True)
    parser.add_argument("--seed", type=int, required=True)
    parser.add_argument("--bf16", action="store_true")
    arguments = parser.parse_args()
    tokenizer = AutoTokenizer.from_pretrained(arguments.model)
    model = AutoModelForSequenceClassification.from_pretrained(arguments.model)
    train, dev, test = (
        Rows(arguments.data / f"{split}.csv", tokenizer, arguments.max_length)
        for split in ("train", "dev", "test")
    )
    eval_every = min(arguments.eval_every, arguments.steps)
    trainer = Trainer(
        model=model,
        args=TrainingArguments(
            output_dir=str(arguments.out),
            max_steps=arguments.steps,
            warmup_steps=arguments.warmup_steps,
            learning_rate=arguments.lr,
            weight_decay=arguments.weight_decay,
            per_device_train_batch_size=arguments.batch,
            per_device_eval_batch_size=arguments.batch,
            lr_scheduler_type="linear",
            eval_strategy="steps",
            eval_steps=eval_every,
            save_strategy="steps",
            save_steps=eval_every,
            save_total_limit=1,
            load_best_model_at_end=True,
            metric_for_best_model="loss",
            bf16=arguments.bf16,
            seed=arguments.seed,
            report_to="none",
            disable_tqdm=True,
            use_cpu=not torch.cuda.is_available(),
        ),
        train_dataset=train,
        eval_dataset=dev,
        processing_class=tokenizer,
        data_collator=DataCollatorWithPadding(tokenizer),
    )
    trainer.train()
    predicted = trainer.predict(test).predictions.argmax(-1)
    found = {
        "mcc": float(matthews_corrcoef(test.labels, predicted)),
        "accuracy": float(accuracy_score(test.labels, predicted)),
    }
    print(json.dumps(found), flush=True)


if __name__ == "__main__":
    main()
