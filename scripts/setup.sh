# Sourced by the other scripts: makes .venv with the tested packages (constraints.txt) and puts it on PATH.
# Python 3.11 or newer is all it needs; a second call is a matter of a second. PYTHON names another interpreter.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
stamp=.venv/.installed
if [ ! -f "$stamp" ] || [ setup.py -nt "$stamp" ] || [ constraints.txt -nt "$stamp" ]; then
    [ -d .venv ] || "${PYTHON:-python3}" -m venv .venv
    echo "Installing into .venv ..." >&2
    # The cap keeps torch at the tested build before anything else can ask for a newer one.
    .venv/bin/python -m pip install --quiet --constraint constraints.txt torch
    .venv/bin/python -m pip install --quiet --constraint constraints.txt --editable ".[dev]"
    touch "$stamp"
fi
export PATH="$PWD/.venv/bin:$PATH"
