#!/usr/bin/env bash
# All evaluators on pixels, an untrained network and one that we trained, on two sets of real images.
# CIFAR10: folder that holds cifar-10-batches-py; IMAGENETTE: folder with train/ and val/; RUNS: where to train.
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)
cifar10=${CIFAR10:-data} imagenette=${IMAGENETTE:-data/imagenette2} runs=${RUNS:-runs/evaluators}

ssl-zoo train --config "$here/cifar10.yaml" "data.root=$cifar10" -o "$runs/swav-cifar10"
ssl-zoo train --config "$here/imagenette.yaml" "data.root=$imagenette" -o "$runs/swav-imagenette"

ssl-zoo evaluate untrained:pixels --dataset cifar10 "data.root=$cifar10" data.mean=[0,0,0] data.std=[1,1,1] \
  --evaluators knn:nearest -o "$here/result-cifar10-nearest.json"
ssl-zoo evaluate untrained:pixels --dataset cifar10 "data.root=$cifar10" data.limit=10000 \
  --evaluators knn,clustering,linear,retrieval,health,svm -o "$here/result-cifar10-pixels.json"
ssl-zoo evaluate "untrained:{name: tiny_resnet, widths: [32, 64, 128, 256]}" "$runs/swav-cifar10" \
  --dataset cifar10 "data.root=$cifar10" data.limit=10000 \
  --evaluators knn,clustering,linear,retrieval,health,svm -o "$here/result-cifar10-networks.json"
ssl-zoo evaluate "$runs/swav-cifar10" --dataset cifar10 "data.root=$cifar10" data.limit=10000 \
  --evaluators "prototypes,{name: linear_sgd, epochs: 5},{name: finetune, epochs: 10}" \
  -o "$here/result-cifar10-trained.json"
# A support vector machine on the 12,288 numbers of pixels takes more than ten minutes.
ssl-zoo evaluate untrained:pixels --dataset image_folder "data.root=$imagenette" --image-size 64 \
  --evaluators knn,clustering,linear,retrieval,health -o "$here/result-imagenette-pixels.json"
ssl-zoo evaluate untrained:resnet18 "$runs/swav-imagenette" --dataset image_folder "data.root=$imagenette" --image-size 64 \
  --evaluators knn,clustering,linear,retrieval,health,svm -o "$here/result-imagenette-networks.json"
ssl-zoo evaluate "$runs/swav-imagenette" --dataset image_folder "data.root=$imagenette" \
  --evaluators "prototypes,{name: linear_sgd, epochs: 5, lr: 0.01},{name: finetune, epochs: 10, head_lr: 0.01}" \
  -o "$here/result-imagenette-trained.json"

# What each image adds is for paired tests, and large.
python - "$here"/result-*.json <<'END'
import json, pathlib, sys
for path in map(pathlib.Path, sys.argv[1:]):
    found = json.loads(path.read_text())
    for result in found.get("results", [found]):
        for one in result["evaluators"].values():
            one["outcomes"], one["details"] = {}, {}
    path.write_text(json.dumps(found, indent=1) + "\n")
END
