#!/usr/bin/env bash
# Runs studies, one after the other, for so many seconds; the same command goes on where the time was over. A YAML file
# must be called after its study, born_again.yaml for instance. On one GPU, the most informative first, 25 minutes at a
# time:
#   ./scripts/studies.sh 1500 configs/multi30k_gpu/decoding.yaml configs/multi30k_gpu/capacity.yaml
# Ends with status 75 while there is something left to run.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
end=$((SECONDS + ${1:?usage: studies.sh SECONDS CONFIG.yaml ...}))
shift
for config in "$@"; do
    left=$((end - SECONDS))
    ((left > 0)) || exit 75
    # A study may be killed at any moment: it resumes, and has written a report after every student.
    name=$(basename -s .yaml "$config")
    timeout --kill-after=10 "$left" python -m hf_nat experiment "${name//_/-}" "$config" || {
        status=$?
        ((status == 124 || status == 137)) && status=75
        exit "$status"
    }
done
