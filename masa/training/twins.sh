#!/usr/bin/env bash
# Trains the networks that the laboratory compares: from nothing, one after the other, and alike but
# for what stands behind each name. Ctrl-C saves and stops; the same command goes on from there.
set -euo pipefail
if [ $# -ne 3 ]; then
  echo "Usage: bash $0 PAIRS SCENES OUT" >&2
  exit 2
fi
pairs=$1 scenes=$2 out=$3
precision=${PRECISION:-fp32} # the same for all of them; bf16 is faster where the processor has it

train() {
  local name=$1
  shift
  python -m masa train --data "$pairs" --val "$scenes" --out "$out/$name" --channels 32 \
    --optimizer muon --steps 6000 --batch 4 --crop 128 --lr 3e-4 --lr-final 1e-6 --ema 0.999 \
    --orient together --hard 0.25 --precision "$precision" --val-every 2000 "$@"
}

# The paper's table 3. SAM's network is Model 4 of table 4 too.
train lab-sam --seed 101 --adaptation sam
train lab-none --seed 101 --adaptation none
train lab-adain --seed 101 --adaptation adain
train lab-spade --seed 101 --adaptation spade
# Table 4.
train lab-dram1 --seed 101 --adaptation sam --no-dram-ref --no-dram-lr
train lab-dram2 --seed 101 --adaptation sam --no-dram-ref
train lab-dram3 --seed 101 --adaptation sam --no-dram-lr
# What the luminance augmentation does, and what SAM does.
train lab-sam-plain --seed 101 --adaptation sam --no-luminance
# Second seeds, so that a difference can be told from chance.
train lab-sam-seed2 --seed 102 --adaptation sam
train lab-none-seed2 --seed 102 --adaptation none
