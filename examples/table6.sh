#!/usr/bin/env bash
# Table 6 of the paper: 1,000 steps of pretraining, 27 GUE tasks, MCC. The logo half; MODELS adds the other.
#
# What the paper ran: GENEMASK, CM-Step and CM-GEMS at a tenth of the steps. Added here: no pretraining.
# With fewer steps everything that is a fraction of them shrinks too: evaluations come every 50 steps, warm-up
# takes 50, so that CM-GEMS judges its switch by drops over 50 steps.
#
#   bash examples/table6.sh
#   MODELS="logo dnabert" SEEDS=42,43,44 bash examples/table6.sh
#
# Run again, each command resumes its work, or sees that it is finished.
#
# Hardware  logo: 2 CPU cores will do. dnabert: a CUDA card with bf16.
# Download  hg38.fa.gz, 0.98 GB; GUE (`cmgems fetch gue --dry-run` says how much).
# Disk      the download and 0.83 GB of corpus (derived from chr20).
# Hours     pretraining, one model: 1,000 steps x 250 sequences x 386 tokens = 96.4 M tokens
#             logo      2.26 h on 2 CPU cores    derived from 11,865 tokens/s (docs/log.md)
#             dnabert   62.3 h on 2 CPU cores      derived from 430 tokens/s (docs/log.md)
#             on GPUs   96.4 M / tokens per second (see docs/scaling.md)
#           fine-tuning, one model, 27 tasks: (see docs/scaling.md); shared by an array job: slurm_gue.sh
set -euo pipefail

WORK="${CMGEMS_WORKSPACE:-cmgems-work}"
MODELS="${MODELS:-logo}"
STRATEGIES="${STRATEGIES:-genemask cm-step cm-gems}"
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
    name="$model-$strategy-1k"
    scores="$WORK/scores/$name-gue"
    $LAUNCH pretrain --model "$model" --strategy "$strategy" --steps 1000 \
      --out "$WORK/models/$name"
    cmgems evaluate "$WORK/models/$name" --bench gue --seeds "$SEEDS" \
      --baseline "$blank" --out "$scores"
  done
  cmgems ttest "paper:$model-cm-gems-1k" "$blank" "$WORK/scores/$model-genemask-1k-gue" \
    "$WORK/scores/$model-cm-gems-1k-gue"
done
