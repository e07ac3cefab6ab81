#!/usr/bin/env bash
# VGG16 on CIFAR-10: the plain network, then variational dropout from its weights.
# Finished runs are skipped, and one that was cut goes on from its last snapshot: so it
# may be called again and again, under a limit of time.
#
#   GPU=0 VDCORE_DATASET_ROOT=/data timeout 580 examples/cifar/reproduce.sh [folder]
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)
python=${PYTHON:-python3}
out=${1:-result/cifar/vgg16}
seed=${SEED:-0}
device=${GPU:+--gpu $GPU --graph}

train() {
  local folder=$out/$1-seed$seed
  shift
  mkdir -p "$folder"
  if [ ! -f "$folder/model.npz" ]; then
    # shellcheck disable=SC2086  # $device is several words, or none
    "$python" "$here/train_cifar.py" $device --seed "$seed" -f 5 --autoload \
      -o "$folder" "$@" 2>&1 | tee -a "$folder/output.txt"
  fi
}

train plain --pretrain -e 150
train pruned --resume "$out/plain-seed$seed/model.npz" -e 200 --lr 1e-4 \
  --log-sigma2 -8 --kl-epochs 5 60 --mask-from 100 --fine-tune 40
