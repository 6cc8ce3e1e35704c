#!/usr/bin/env bash
# Runs smoke.py with a real Triton in a virtual environment, because Triton's Python stub needs NumPy 1.
set -euo pipefail
kit=$(cd "$(dirname "$0")" && pwd)
venv=$(mktemp -d)
trap 'rm -rf "$venv"' EXIT
python3 -m venv "$venv"
"$venv/bin/pip" install -q --disable-pip-version-check onnxruntime 'numpy<2'
"$venv/bin/pip" install -q --disable-pip-version-check --no-deps nvidia-pytriton==0.7.0
python "$kit/smoke.py" "$@" --triton "$venv"
