#!/usr/bin/env bash
# The page for real: its modules in Node and itself in headless Chromium, against the network in Python.
# Needs python with explainable_model[demo], Node 20 or newer with npm, and Chromium (installed here where it is missing).
set -euo pipefail
cd "$(dirname "$0")"

if ! command -v chromium >/dev/null; then
    apt-get update -qq
    DEBIAN_FRONTEND=noninteractive apt-get install -qq -y --no-install-recommends chromium >/dev/null
fi
npm ci --ignore-scripts --no-audit --no-fund
python make_site.py

expected=$(mktemp -d)
trap 'rm -rf "$expected"' EXIT
python test/expected.py "$expected"
EXPECTED="$expected" npm test
