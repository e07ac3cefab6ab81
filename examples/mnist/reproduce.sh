#!/usr/bin/env bash
# The runs behind the README's tables of MNIST, three seeds a recipe, two runs at a time
# with one thread each. Finished runs are skipped, and those that were cut go on from
# their last snapshot: so it may be called again and again, under a limit of time.
#
#   VDCORE_DATASET_ROOT=/data examples/mnist/reproduce.sh lenet300100|lenet5 [folder]
#
# On a GPU, with six runs at a time:
#
#   GPU=0 JOBS=6 timeout 580 examples/mnist/reproduce.sh lenet5
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)
python=${PYTHON:-python3}
network=$1
out=${2:-result/mnist/$network}
device=${GPU:+--gpu $GPU --graph}
export OPENBLAS_NUM_THREADS=1 VDCORE_NUM_THREADS=1

case $network in
lenet300100)
  recipes=("mask40 --mask-from 40 --fine-tune 45" "mask100 --mask-from 100 --fine-tune 45"
    "published --mask-from 0")
  groups=("masks from epoch 40, fine-tuned=$out/mask40-seed*"
    "masks from epoch 100, fine-tuned=$out/mask100-seed*"
    "masks from the start, as published=$out/published-seed*")
  ;;
lenet5)
  recipes=("mask40 --relu-after-convolutions --mask-from 40 --fine-tune 45"
    "mask100 --relu-after-convolutions --mask-from 100 --fine-tune 45")
  groups=("masks from epoch 40, fine-tuned=$out/mask40-seed*"
    "masks from epoch 100, fine-tuned=$out/mask100-seed*")
  ;;
*)
  echo "reproduce.sh: the network must be lenet300100 or lenet5, got $network" >&2
  exit 2
  ;;
esac

for recipe in "${recipes[@]}"; do
  for seed in 0 1 2; do
    name=${recipe%% *}
    echo "--model $network ${recipe#"$name"} $device -f 20 --autoload --seed $seed" \
      "-o $out/$name-seed$seed"
  done
done | xargs -P "${JOBS:-2}" -I{} bash -c '
  folder=$(echo "{}" | sed "s/.* -o //")
  [ -f "$folder/summary.json" ] && exit 0
  mkdir -p "$folder"
  '"$python $here"'/train_mnist.py {} >> "$folder/output.txt" 2>&1'
"$python" "$here/plot_frontier.py" "$out/frontier.png" --network "$network" \
  "${groups[@]}" | tee "$out/table.md"
