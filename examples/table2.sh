#!/usr/bin/env bash
# Table 2 of the paper: 10,000 steps of pretraining, 27 GUE tasks, MCC. Then its test, Table 3.
#
# What the paper ran: DNABERT and LOGO, each pretrained by GLOBAL, GENEMASK, CM-Step and CM-GEMS, fine-tuned
# once on every task. Models trained for 120,000 steps are columns of published scores there, and the reports
# print these beside yours. Added here: both architectures without pretraining, which the paper leaves out.
#
#   bash examples/table2.sh
#   MODELS=logo STRATEGIES="genemask cm-gems" SEEDS=42,43,44 bash examples/table2.sh
#   LAUNCH="torchrun --nproc-per-node 8 -m cmgems_cli" bash examples/table2.sh    # pretrain on 8 GPUs
#
# Run again, each command resumes its work, or sees that it is finished.
#
# Hardware  dnabert: a CUDA card with bf16. logo: the same, or a CPU with patience.
# Download  hg38.fa.gz, 0.98 GB; GUE (`cmgems fetch gue --dry-run` says how much).
# Disk      the download, 0.83 GB of corpus (derived from chr20), two checkpoints of 1.1 GB for dnabert (derived).
# Hours     pretraining, one model: 10,000 steps x 250 sequences x 386 tokens = 965 M tokens
#             logo      22.6 h on 2 CPU cores    derived from 11,865 tokens/s (docs/log.md)
#             dnabert   623 h on 2 CPU cores     derived from 430 tokens/s (docs/log.md)
#             on GPUs   965 M / tokens per second (see docs/scaling.md)
#           fine-tuning, one model, 27 tasks: (see docs/scaling.md); shared by an array job: slurm_gue.sh
set -euo pipefail

WORK="${CMGEMS_WORKSPACE:-cmgems-work}"
MODELS="${MODELS:-dnabert logo}"
STRATEGIES="${STRATEGIES:-global genemask cm-step cm-gems}"
SEEDS="${SEEDS:-42}" # ours, the paper names none; with three one sees how much of a difference is luck
LAUNCH="${LAUNCH:-cmgems}"

cmgems fetch grch38
cmgems fetch gue
cmgems prepare-genome "$WORK/downloads/hg38.fa.gz"
cmgems build-pmi

for model in $MODELS; do
  blank="$WORK/scores/$model-random-gue"
  cmgems evaluate "$model" --init random --bench gue --seeds "$SEEDS" --out "$blank"
  for strategy in $STRATEGIES; do
    name="$model-$strategy-10k"
    scores="$WORK/scores/$name-gue"
    $LAUNCH pretrain --model "$model" --strategy "$strategy" --steps 10000 \
      --out "$WORK/models/$name"
    cmgems evaluate "$WORK/models/$name" --bench gue --seeds "$SEEDS" \
      --baseline "$blank" --out "$scores"
  done
done

# Table 3: the published models, your GENEMASK and no pretraining, against your CM-GEMS.
for model in $MODELS; do
  cmgems ttest paper:dnabert-120k paper:dnabert2-kmer-120k "$WORK/scores/$model-random-gue" \
    "$WORK/scores/$model-genemask-10k-gue" "$WORK/scores/$model-cm-gems-10k-gue"
done
