#!/bin/bash
# An array of SLURM: each task filters its share of the scans and writes a report; submitted again, does what is missing.
#   sbatch --array=1-8 configs/recipes/slurm.sh scans smooth --kernel gaussian --fwhm 4mm
# When all have ended, one report of all, and exit code 7 where a scan failed:
#   lucid-conv3d merge smooth/shard-*.json -o smooth/batch.json
#SBATCH --cpus-per-task=2
#SBATCH --mem=4G
#SBATCH --time=01:00:00
set -eu
: "${SLURM_ARRAY_TASK_COUNT:?submit this as an array, such as sbatch --array=1-8 slurm.sh SCANS OUTPUT OPTION...}"
in="$1" out="$2"
shift 2
report="$out/shard-$SLURM_ARRAY_TASK_ID.json"
mkdir -p "$out"
rm -f "$report" # of an earlier submission
lucid-conv3d apply "$in"/*.nii.gz -o "$out" --shard "$SLURM_ARRAY_TASK_ID/$SLURM_ARRAY_TASK_COUNT" --skip-existing \
    --threads "${SLURM_CPUS_PER_TASK:-1}" --max-memory "${SLURM_MEM_PER_NODE:-4096}MiB" --progress log \
    --report "$report" "$@"
