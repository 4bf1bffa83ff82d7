#!/usr/bin/env bash
# The main job on the toy corpus: teacher, distillation, students on real and on distilled targets, report.
# A few minutes on 2 CPU cores, set-up excluded; a second call goes on where the first one stopped.
source "$(dirname "$0")/setup.sh"
exec hf-nat quickstart "$@"
