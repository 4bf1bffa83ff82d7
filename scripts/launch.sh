#!/usr/bin/env bash
# Runs an hf-nat command in the processes that configs/accelerate/NAME.yaml describes. Options of `accelerate launch`
# stand before the command, in the form --key=value:
#   ./scripts/launch.sh multi_gpu --num_processes=4 train configs/wmt14/teacher_base.yaml
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
config=configs/accelerate/${1:?usage: launch.sh NAME [--key=value ...] COMMAND ...}.yaml
[ -f "$config" ] || { echo "There is no $config. NAME is one of:" $(basename -s .yaml configs/accelerate/*) >&2; exit 2; }
shift
options=()
while [[ ${1-} == --* ]]; do
    options+=("$1")
    shift
done
exec accelerate launch --config_file "$config" ${options[@]+"${options[@]}"} -m hf_nat "$@"
