#!/usr/bin/env bash
# Starts grpo_vlm.py; every argument goes to it.
#
#   ./launch.sh                                              # tiny-llava on this machine's CPU
#   ./launch.sh --model tiny-qwen2vl --steps 20
#   GPUS=4 ./launch.sh --model /path/to/Qwen2.5-VL-3B-Instruct
#   GPUS=8 ACCELERATE_CONFIG=zero3.yaml ./launch.sh --model /path/to/Qwen2.5-VL-7B-Instruct
#
# GPUS                processes, one a GPU (without it: one process)
# ACCELERATE_CONFIG   a file of `accelerate config`, for DeepSpeed or FSDP (without it: torchrun)
# PYTHON              the interpreter (without it: the project's .venv, else python3)
set -euo pipefail

root="$(cd "$(dirname "${BASH_SOURCE[0]}")/../.." && pwd)"
if [[ -z "${PYTHON:-}" ]]; then
    PYTHON="$root/.venv/bin/python"
    [[ -x "$PYTHON" ]] || PYTHON=python3
fi
export PYTHONPATH="$root${PYTHONPATH:+:$PYTHONPATH}"
script=tutorial.example_self_refine_vlm.grpo_vlm

if [[ -n "${ACCELERATE_CONFIG:-}" ]]; then
    exec "$PYTHON" -m accelerate.commands.launch --config_file "$ACCELERATE_CONFIG" \
        --num_processes "${GPUS:-1}" -m "$script" "$@"
elif (( ${GPUS:-1} > 1 )); then
    exec "$PYTHON" -m torch.distributed.run --standalone --nproc_per_node "$GPUS" -m "$script" "$@"
fi
exec "$PYTHON" -m "$script" "$@"
