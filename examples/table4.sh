#!/usr/bin/env bash
# Table 4 of the paper: five few-shot data sets, 10 and 50 examples a class, accuracy over ten draws.
#
# What the paper ran: DNABERT as published (120,000 steps) and pretrained for 10,000 steps by random masking
# ("DNABert 10K"), GENEMASK, GLOBAL, CM-Step and CM-GEMS. Added here: no pretraining.
#
#   FEWSHOT=path/to/folder bash examples/table4.sh
#
# FEWSHOT holds prom-core, prom-300, cohn-enh, splice-40 and sil-300, each with folders 10 and 50, as the
# authors of GeneMask and CM-GEMS publish them with their code; data sets that are not there are listed and left out.
# Models that table2.sh has pretrained already are used. Run again, each command resumes its work.
#
# Hardware  a CUDA card with bf16 (dnabert).
# Download  hg38.fa.gz, 0.98 GB; DNABERT-6, 0.36 GB.
# Disk      the downloads, 0.83 GB of corpus (derived from chr20), two checkpoints of 1.1 GB for dnabert (derived).
# Hours     pretraining, one model: 10,000 steps x 250 sequences x 386 tokens = 965 M tokens
#             dnabert   623 h on 2 CPU cores     derived from 430 tokens/s (docs/log.md)
#             on GPUs   965 M / tokens per second (see docs/scaling.md); there are 5 of them
#           few-shot, one model: 5 data sets x 2 x 10 = 100 runs, of 80 to 600 steps of 5 sequences each;
#           their tests, 124 M tokens forward, take most of it: (see docs/scaling.md)
set -euo pipefail

WORK="${CMGEMS_WORKSPACE:-cmgems-work}"
FEWSHOT="${FEWSHOT:?give FEWSHOT=FOLDER, the folder that holds prom-core, prom-300 and the others}"
STRATEGIES="${STRATEGIES:-random genemask global cm-step cm-gems}"
LAUNCH="${LAUNCH:-cmgems}"

cmgems fetch grch38
cmgems fetch dnabert6
cmgems prepare-genome "$WORK/downloads/hg38.fa.gz"
cmgems build-pmi

blank="$WORK/scores/dnabert-random-fewshot"
cmgems evaluate dnabert --init random --bench fewshot --data "$FEWSHOT" --shots 10,50 --out "$blank"
published="$WORK/scores/dnabert-120k-fewshot"
cmgems evaluate "$WORK/models/dnabert6" --bench fewshot --data "$FEWSHOT" --shots 10,50 \
  --baseline "$blank" --out "$published"

for strategy in $STRATEGIES; do
  name="dnabert-$strategy-10k"
  scores="$WORK/scores/$name-fewshot"
  $LAUNCH pretrain --model dnabert --strategy "$strategy" --steps 10000 \
    --out "$WORK/models/$name"
  cmgems evaluate "$WORK/models/$name" --bench fewshot --data "$FEWSHOT" --shots 10,50 \
    --baseline "$blank" --out "$scores"
done

cmgems ttest "$blank" "$published" "$WORK/scores/dnabert-genemask-10k-fewshot" \
  "$WORK/scores/dnabert-global-10k-fewshot" "$WORK/scores/dnabert-cm-gems-10k-fewshot" --metric accuracy
