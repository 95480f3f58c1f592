#!/usr/bin/env bash
# Question: where do the methods stand after the same few views of CIFAR-10, on a CPU?
# Papers: in each method's README; not a published recipe. Expected: beyond an untrained network; see README.md.
# Wall time: about 40 minutes on one core of a desktop CPU. Give the folder of the extracted CIFAR-10 as DATA.
# Stopped, the same command goes on where it was.
set -euo pipefail
ssl-zoo compare \
  swav deepcluster_v2 sela_v2 simclr moco_v2 moco_v3 nnclr byol simsiam barlow_twins vicreg dino deepcluster sela supervised \
  --recipe digits --seeds 3 --output "${1:-runs/all-methods-cifar10}" \
  --set "data={name: cifar10, root: ${DATA:-data}, limit: 10000}" \
  --set "backbone={name: tiny_resnet, widths: [16, 32, 64]}" \
  --set "augmentation={name: multicrop, crops: [{size: 16, count: 4, scale: [0.2, 1.0]}], color_jitter: {probability: 0.8, brightness: 0.4, contrast: 0.4, saturation: 0.4, hue: 0.1}, blur: {probability: 0.0}}" \
  --set epochs=4 --set global_batch_size=128 --set "evaluation.every=0 epochs" --set "checkpoint.every=4 epochs"
