#!/usr/bin/env bash
# Records what the repository holds of an NVIDIA GPU, by the suite's own commands: bench/record_gpu.sh PART FOLDER
# Parts: maps (every channel count), few (a map of ResNet-50 in one format), baseline, noise (A/A), and choices.
# Run it from the repository's root, with PYTHON=… for another interpreter, on a GPU that nothing else uses.
set -euo pipefail
part=$1 out=$2 python=${PYTHON:-python3}
mkdir -p "$out"
map() { "$python" -m neverslower map "$@"; }
case $part in
maps)
    map --network resnet50 --dtype float16 --layout NHWC "$out/resnet50-float16-NHWC.json.xz"
    map --network resnet50 --dtype tf32 --layout NCHW "$out/resnet50-tf32-NCHW.json.xz"
    map --network vgg16 --network alexnet --rounds 10 --dtype float16 --layout NHWC "$out/vgg16-alexnet-float16-NHWC.json.xz"
    map --network vgg16 --network alexnet --rounds 10 --dtype tf32 --layout NCHW "$out/vgg16-alexnet-tf32-NCHW.json.xz"
    ;;
few)
    map --network resnet50 --dtype float16 --layout NHWC "$out/resnet50-float16-NHWC.json.xz"
    ;;
baseline)
    # The outputs of every unpruned and pruned layer are checked as they are examined; the slices have their own run.
    # A call that is interrupted is gone on with by the next one with the same folder.
    journal="--journal=$out/journal.jsonl"
    [[ -e $out/journal.jsonl ]] && journal="--resume=$out/journal.jsonl"
    "$python" -m pytest tests/test_never_slower.py tests/test_latency.py --backend cudnn --profile full \
        --network resnet50 --network vgg16 --network alexnet --passes 3 --blocks 10 --explain-budget 100s \
        --baselines="$out" "$journal" --accept-baseline "as measured by the suite on this GPU"
    ;;
noise)
    "$python" -m bench.record_noise --backend cudnn --network resnet50 --network vgg16 --format float16-NHWC \
        --format tf32-NCHW --comparisons 1000 --blocks 24 --processes 3 "$out/noise.npz"
    "$python" -m bench.judge_noise "$out/noise.npz"
    ;;
choices)
    map --backend cudnn:torch --layer vgg16.L5 --dtype tf32 --layout NCHW "$out/torch-vgg16.L5-tf32-NCHW.json.xz"
    map --backend cudnn:torch --layer resnet50.L16 --dtype float16 --layout NHWC "$out/torch-resnet50.L16-float16-NHWC.json.xz"
    map --backend cudnn:best --layer resnet50.L16 --dtype tf32 --layout NHWC --rounds 10 "$out/best-resnet50.L16-tf32-NHWC.json.xz"
    ;;
*)
    echo "unknown part $part: maps, few, baseline, noise or choices" >&2
    exit 2
    ;;
esac
