# %% [markdown]
# # From a genome to embeddings and predictions, in a notebook
#
# Open this file as a notebook (VS Code, Jupyter with jupytext) or run it with `python examples/notebook.py`: half a
# minute on a laptop, everything in a temporary folder. What it trains is far too small to be of use; every call
# is the one a real model takes.

# %%
import csv
import os
import tempfile
from importlib.resources import files
from pathlib import Path

import numpy as np

import cmgems_cli as cm

work = Path(os.environ.get("NOTEBOOK_FOLDER") or tempfile.mkdtemp())
steps = os.environ.get("NOTEBOOK_STEPS", "200")
fasta = Path(str(files("cmgems_cli") / "data" / "hg38_chr16_186964_397118.fa.gz"))


# %% [markdown]
# ## Train: the commands, from Python
#
# In a shell these are `cmgems prepare-genome FASTA` and so on; a notebook has `!cmgems …`.


# %%
def cmgems(*words: str | Path) -> None:
    """Run a cmgems command in this process."""
    from cmgems_cli.cli import app

    app(list(map(str, words)), standalone_mode=False)


short = ["--global-batch", "32", "--quiet"]
cmgems("prepare-genome", fasta, "--max-tokens", "62", "--out", work / "corpus", "--quiet")
cmgems("build-pmi", work / "corpus", "--min-count", "20", "--out", work / "pmi", "--quiet")
cmgems(
    *("pretrain", work / "corpus", "--pmi", work / "pmi", "--model", "tiny", "--strategy", "genemask"),
    *("--steps", steps, "--out", work / "model", *short),
)

# %% [markdown]
# ## Look at tokens and masks
#
# A sequence of n bases is n - 5 overlapping 6-mers. Each strategy hides other ones of them.

# %%
sequence = "GGCCTCCCAAAGTGCTGGGATTACAGGCGTGAGCCACCGCGCCCGGCC"  # the beginning of an Alu element
ranking = cm.load_ranking(work / "pmi")
print("tokens  ", cm.encode(sequence)[0][:8], "…")
for strategy in ("random", "genemask", "global"):
    masked = cm.mask([sequence] * 200, strategy, ranking=ranking)
    shown = "".join("█" if hidden else "·" for hidden in masked[0])
    print(f"{strategy:8}", shown, f"{100 * np.mean(masked):.0f} % of the k-mers of 200 draws")
hidden = cm.mask(sequence, "global", ranking=ranking)
print("seen    ", cm.corrupt(sequence, hidden)[0][12:28], "where 4 is [MASK]")

# %% [markdown]
# ## Embed
#
# One vector a sequence, by default the mean of the last layer's states over the k-mers.

# %%
model = cm.load_model(work / "model")
vectors = cm.embed(model, {"alu": sequence, "other": "ATATTTGCATAAATTCGATAGCATTAACGATAT"})
by_layer = cm.embed(model, [sequence], pooling="tokens", layers=[0, -1])[0]
print("two sequences", vectors.shape, "· one, by token and layer", by_layer.shape)

# %% [markdown]
# ## Classify
#
# A made-up task: is there an ACGT repeat in 60 bases? `cmgems finetune` takes a folder of train, dev and test.csv.

# %%
draw = np.random.default_rng(0)
task = work / "repeats"
task.mkdir()
for split, n in (("train", 400), ("dev", 100), ("test", 100)):
    with (task / f"{split}.csv").open("w", newline="") as stream:
        rows = csv.writer(stream)
        rows.writerow(["sequence", "label"])
        for number in range(n):
            letters = draw.choice(list("ACGT"), 60)
            if number % 2:
                letters[20:44] = list("ACGT") * 6
            rows.writerow(["".join(letters), ("plain", "repeat")[number % 2]])
cmgems(
    *("finetune", work / "model", task, "--max-steps", steps, "--lr", "1e-3", "--warmup-steps", "5"),
    *("--eval-every", "50", "--out", work / "classifier", *short),
)

# %%
classifier = cm.load_model(work / "classifier")
print(classifier.label_names)
scan = cm.predict(classifier, {"scan": "A" * 90 + "ACGT" * 20 + "T" * 90}, window=60, stride=40)
for name, start, end, label, shares in zip(
    scan.names, scan.starts, scan.ends, scan.labels, scan.probabilities, strict=True
):
    print(f"{name}:{start}-{end}", label, shares.round(3))
print(scan)  # and scan.to_frame() with pandas installed
