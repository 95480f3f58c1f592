#!/usr/bin/env bash
# Trains SimCLR and SwAV with three seeds each on IMAGENETTE (class folders in train/ and val/), then scores them.
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)
out=${OUT:-runs/photographs}
runs=()
for seed in 0 1 2; do
  for method in simclr swav; do
    OMP_NUM_THREADS=1 ssl-zoo train --config "$here/$method.yaml" seed=$seed data.root="$IMAGENETTE" -o "$out/$method-$seed"
    runs+=("$out/$method-$seed")
  done
done
ssl-zoo evaluate "${runs[@]}" --evaluators knn,clustering --dataset image_folder data.root="$IMAGENETTE" \
  data.train=train data.test=val -o "$here/result-imagenette.json"
