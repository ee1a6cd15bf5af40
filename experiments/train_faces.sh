#!/usr/bin/env bash
# How the bundled `faces` model was made; about two hours on 2 CPU cores, one more where they have no bf16.
#   experiments/train_faces.sh runs
set -euo pipefail
data=${PIXELSLEUTH_SHARED:-../shared}/data
out=${1:-runs}
mkdir -p "$out"
pixelsleuth prepare images "$data/faces_dfdc/train" "$data/faces_utk/train" "$data/faces_dfdc/calib" \
  "$data/faces_utk/calib" "$data/faces_dfdc/val/real" "$out/faces.h5"
pixelsleuth train "$out/faces.h5" "$out/faces" --preset fast --set vqvae_stage.epochs=10
# The detective, on top of it, at 256 px and with the detail of each cell as the preset has it. Copy-move, removal,
# sharpening, warps and swaps of single features are kinds it never saw.
pixelsleuth train "$out/faces.h5" "$out/faces" --preset fast --set vqvae_stage.epochs=10 --resume \
  --set detective_stage.epochs=5 --set pairs=9000 \
  --set 'forgeries=[self_blend, blur, noise, compression, recolour, magnify, soft_face, donor_blend, donor_face, donor_poisson, reconstruction_blend, restoration_blend, generated_face]'
