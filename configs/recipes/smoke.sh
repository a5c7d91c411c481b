#!/bin/sh
# A smoke job for CI: a volume is made and filtered, at once and in tiles, and both results must be the same.
#   sh configs/recipes/smoke.sh
set -eu
work="$(mktemp -d)"
trap 'rm -rf "$work"' EXIT
cd "$work"
lucid-conv3d sample phantom -o phantom.nii.gz --shape 24,28,32 --spacing 2,1,1mm
lucid-conv3d apply phantom.nii.gz -o whole.nii.gz --kernel gaussian --fwhm 4mm --quiet
lucid-conv3d apply phantom.nii.gz -o tiles.nii.gz --kernel gaussian --fwhm 4mm --tile 8 --threads 1 --quiet
lucid-conv3d compare whole.nii.gz tiles.nii.gz
