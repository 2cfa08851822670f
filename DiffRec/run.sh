#!/bin/sh
# The release's positional arguments, for those whose scripts use them; flags may follow.
# sh run.sh DATASET LR WEIGHT_DECAY BATCH_SIZE DIMS EMB_SIZE MEAN_TYPE STEPS NOISE_SCALE NOISE_MIN \
#           NOISE_MAX SAMPLING_STEPS REWEIGHT LOG_NAME ROUND GPU
if [ $# -lt 16 ]; then
    sed -n '3,4s/^# //p' "$0" >&2
    exit 2
fi
dataset=$1 lr=$2 weight_decay=$3 batch_size=$4 dims=$5 emb_size=$6 mean_type=$7 steps=$8
noise_scale=$9
shift 9
noise_min=$1 noise_max=$2 sampling_steps=$3 reweight=$4 log_name=$5 round=$6 gpu=$7
shift 7
exec python "$(dirname "$0")/main.py" --cuda --dataset="$dataset" --lr="$lr" \
    --weight_decay="$weight_decay" --batch_size="$batch_size" --dims="$dims" \
    --emb_size="$emb_size" --mean_type="$mean_type" --steps="$steps" \
    --noise_scale="$noise_scale" --noise_min="$noise_min" --noise_max="$noise_max" \
    --sampling_steps="$sampling_steps" --reweight="$reweight" --log_name="$log_name" \
    --round="$round" --gpu="$gpu" --preset=none "$@"
