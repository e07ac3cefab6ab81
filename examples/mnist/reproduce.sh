#!/usr/bin/env bash
# The runs behind the README's LeNet-300-100 table: three recipes, three seeds each, two
# runs at a time with one thread each. Finished runs are skipped.
#
#   VDCORE_DATASET_ROOT=/data examples/mnist/reproduce.sh [folder]
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)
python=${PYTHON:-python3}
out=${1:-result/mnist}
export OPENBLAS_NUM_THREADS=1 VDCORE_NUM_THREADS=1

runs() {
  for seed in 0 1 2; do
    echo "--mask-from 40 --fine-tune 45 --seed $seed -o $out/mask40-seed$seed"
    echo "--mask-from 100 --fine-tune 45 --seed $seed -o $out/mask100-seed$seed"
  done
  for seed in 0 1 2; do
    echo "--mask-from 0 --seed $seed -o $out/published-seed$seed"
  done
}

runs | xargs -P 2 -I{} bash -c '
  folder=$(echo "{}" | sed "s/.* -o //")
  [ -f "$folder/summary.json" ] && exit 0
  mkdir -p "$folder"
  '"$python $here"'/train_mnist.py {} > "$folder/output.txt" 2>&1'
"$python" "$here/plot_frontier.py" "$out/frontier.png" \
  "masks from epoch 40, fine-tuned=$out/mask40-seed*" \
  "masks from epoch 100, fine-tuned=$out/mask100-seed*" \
  "masks from the start, as published=$out/published-seed*" | tee "$out/table.md"
