#!/usr/bin/env bash
# GUE by a SLURM job array: each of 27 jobs takes every 27th run. The jobs do not communicate; they share one
# folder, and the one that ends last merges the scores.
#
#   cmgems fetch gue        # once, where there is a network
#   sbatch examples/slurm_gue.sh cmgems-work/models/logo-cm-gems-10k
#   SEEDS=42,43,44 sbatch --array=1-9 examples/slurm_gue.sh cmgems-work/models/logo-cm-gems-10k
#
# Two minutes before its time limit a job gets SIGTERM and saves; submit the same array again to resume.
#
# Hardware  one CUDA card per job; without --gres, CPU cores.
# Hours     of all jobs together: rows x epochs x tokens / tokens per second (see docs/scaling.md)
#SBATCH --job-name=cmgems-gue
#SBATCH --array=1-27
#SBATCH --gres=gpu:1
#SBATCH --cpus-per-task=4
#SBATCH --mem=16G
#SBATCH --time=08:00:00
#SBATCH --signal=TERM@120
#SBATCH --output=cmgems-gue-%A-%a.log
set -euo pipefail

MODEL="${1:?give a model folder: sbatch examples/slurm_gue.sh MODEL}"
OUT="${CMGEMS_WORKSPACE:-cmgems-work}/scores/$(basename "$MODEL")-gue"

srun cmgems evaluate "$MODEL" --bench gue --seeds "${SEEDS:-42}" \
  --shard "$SLURM_ARRAY_TASK_ID/$SLURM_ARRAY_TASK_COUNT" --out "$OUT"
