#!/usr/bin/env bash
# Runs one piece of the check on a GPU, which ends by itself within 8 minutes and needs no network and no other piece:
#   ./scripts/gpu_check.sh tests      tests for GPUs; training and decoding benchmarks
#   ./scripts/gpu_check.sh teacher    base teacher, beam corpus, one one-pass student, scores
#   ./scripts/gpu_check.sh students   the other students, the most informative first
#   ./scripts/gpu_check.sh levt       the Levenshtein Transformer
# Options and what it leaves: scripts/gpu_check.py --help. PYTHON names the interpreter that has the packages.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
export PYTHONPATH="$PWD${PYTHONPATH:+:$PYTHONPATH}"
export HF_HUB_OFFLINE=1 HF_DATASETS_OFFLINE=1 HF_HUB_DISABLE_TELEMETRY=1 TOKENIZERS_PARALLELISM=false
limit=470
[[ " $* " != *" nano "* ]] || limit=3600 # the trial on a CPU, where nobody counts seconds
exec timeout --kill-after=5 "$limit" "${PYTHON:-python3}" scripts/gpu_check.py "$@"
