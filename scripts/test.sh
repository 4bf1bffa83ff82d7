#!/usr/bin/env bash
# The default test tier: style, types and the offline tests on the CPU. Arguments go to pytest:
#   ./scripts/test.sh -m slow        training and kill tests, minutes
#   ./scripts/test.sh -m gpu         needs an accelerator
source "$(dirname "$0")/setup.sh"
ruff check .
ruff format --check .
mypy & types=$!  # of one thread, beside the tests
status=0
pytest "$@" || status=$?
wait "$types"
exit "$status"
