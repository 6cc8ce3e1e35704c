#!/usr/bin/env bash
# Tests the page's modules in Node and the page in headless Chromium, against the network in Python. Then runs the
# benchmark of artifacts in Node: one pair, whose map is compared with the eager network's.
# Absolute paths of ONNX artifacts of detectors may follow, which the page then shows, too.
# Needs python with explainable_model[demo], Node 20 or newer with npm, and Chromium (the script installs a missing one).
set -euo pipefail
cd "$(dirname "$0")"

if ! command -v chromium >/dev/null; then
    apt-get update -qq
    DEBIAN_FRONTEND=noninteractive apt-get install -qq -y --no-install-recommends chromium >/dev/null
fi
npm ci --ignore-scripts --no-audit --no-fund
python make.py

expected=$(mktemp -d)
trap 'rm -rf "$expected"' EXIT
python test/expected.py "$expected" "$@"
EXPECTED="$expected" npm test

cd ../..
python -m benchmarks run --suite runtimes --runtimes webassembly --quick --json \
    --out "$expected/results" --scratch "$expected/scratch" > "$expected/rows.json"
python - "$expected/rows.json" << 'END'
import json, sys

rows = json.load(open(sys.argv[1]))["runtimes"]
parity = {key: row["parity"]["explained"]["cam"] for key, row in rows.items()}
print("maps in WebAssembly, largest difference:", parity)
assert parity and all(difference < 1e-3 for difference in parity.values())
END
