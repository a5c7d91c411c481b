#!/bin/sh
# Filters every scan of a folder with GNU parallel, a process of one thread each; called again, does what is missing.
#   sh configs/recipes/parallel.sh scans smooth --kernel gaussian --fwhm 4mm
# Exits with the number of scans that failed (101: more than 100).
set -eu
[ $# -ge 3 ] || { echo "usage: parallel.sh FOLDER OUTPUT_FOLDER OPTION..." >&2; exit 2; }
in="$1" out="$2"
shift 2
[ -d "$in" ] || { echo "parallel.sh: no folder $in" >&2; exit 3; }
found="$(find "$in" -maxdepth 1 -type f -name '*.nii.gz')"
[ -n "$found" ] || { echo "parallel.sh: no .nii.gz in $in itself (its subfolders are not searched)" >&2; exit 3; }
mkdir -p "$out"
find "$in" -maxdepth 1 -type f -name '*.nii.gz' -print0 |
    parallel -0 -q lucid-conv3d apply {} -o "$out/{/}" --skip-existing --threads 1 --quiet "$@"
