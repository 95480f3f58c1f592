#!/usr/bin/env bash
# Question: what do small crops change for the four methods of the SwAV paper, on a CPU?
# Paper: Caron et al., 2020 (arXiv:2006.09882), Figure 3, on ImageNet. Expected: see README.md.
# Wall time: about 45 minutes on one core of a desktop CPU. Give the folder of the extracted CIFAR-10 as DATA.
# Stopped, the same command goes on where it was.
set -euo pipefail
for crops in false true; do
  ssl-zoo compare swav deepcluster_v2 sela_v2 simclr \
    --recipe digits --seeds 3 --output "${1:-runs/multicrop-cifar10}/local-crops-$crops" \
    --set "data={name: cifar10, root: ${DATA:-data}, limit: 10000}" \
    --set "backbone={name: tiny_resnet, widths: [16, 32, 64]}" \
    --set "augmentation={name: multicrop, crops: [{size: 28, count: 2, scale: [0.14, 1.0]}, {size: 12, count: 4, scale: [0.05, 0.14]}], local_crops: $crops, color_jitter: {probability: 0.8, brightness: 0.4, contrast: 0.4, saturation: 0.4, hue: 0.1}, blur: {probability: 0.0}}" \
    --set epochs=8 --set global_batch_size=128 --set "evaluation.every=0 epochs" --set "checkpoint.every=8 epochs"
done
