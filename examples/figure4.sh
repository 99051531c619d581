#!/usr/bin/env bash
# Figure 4 of the paper: does masking 30 % instead of 15 % help? Few-shot accuracy after 1,000, 2,000 and
# 10,000 steps of DNABERT with random masking.
#
# What the paper found: level at 1,000 steps; then 30 % falls behind, by 1.79 and 4.71 % (its text does not
# say which of the two is at 2,000 steps). Each length is a run of its own here, with its own schedule; the
# paper does not say whether its shorter models are the longest one's checkpoints.
#
#   FEWSHOT=path/to/folder bash examples/figure4.sh
#
# FEWSHOT as in table4.sh, whose model of 10,000 steps at 15 % is used if it is there. Run again, each
# command resumes its work.
#
# Hardware  a CUDA card with bf16 (dnabert).
# Download  hg38.fa.gz, 0.98 GB.
# Disk      the download, 0.83 GB of corpus (derived from chr20), two checkpoints of 1.1 GB for dnabert (derived).
# Hours     pretraining, all six: 2 x (1,000 + 2,000 + 10,000) steps x 250 sequences x 386 tokens = 2.51 G tokens
#             dnabert   1,620 h on 2 CPU cores   derived from 430 tokens/s at 15 % (docs/log.md)
#             on GPUs   2.51 G / tokens per second (see docs/scaling.md); 30 % doubles the vocabulary head's work
#           few-shot, one model: 100 runs, as in table4.sh: (see docs/scaling.md)
set -euo pipefail

WORK="${CMGEMS_WORKSPACE:-cmgems-work}"
FEWSHOT="${FEWSHOT:?give FEWSHOT=FOLDER, the folder that holds prom-core, prom-300 and the others}"
LAUNCH="${LAUNCH:-cmgems}"

cmgems fetch grch38
cmgems prepare-genome "$WORK/downloads/hg38.fa.gz"
cmgems build-pmi

for steps in 1000 2000 10000; do
  for rate in 0.15 0.30; do
    name="dnabert-random-$((steps / 1000))k"
    if [ "$rate" = 0.30 ]; then name="$name-mask30"; fi
    $LAUNCH pretrain --model dnabert --strategy random --steps "$steps" \
      --mask-rate "$rate" --out "$WORK/models/$name"
    cmgems evaluate "$WORK/models/$name" --bench fewshot \
      --data "$FEWSHOT" --shots 10,50 --out "$WORK/scores/$name-fewshot"
  done
  plain="$WORK/scores/dnabert-random-$((steps / 1000))k-fewshot"
  cmgems ttest "$plain" "${plain%-fewshot}-mask30-fewshot" --metric accuracy
done
