#!/usr/bin/env bash
# Tests reports in headless Chromium. Needs python with explainable_model[batch], Node 20 or newer, Chromium, and
# the packages of the web kit: `npm ci` in export/web, as its smoke.sh does.
set -euo pipefail
cd "$(dirname "$0")/../../.."

reports=$(mktemp -d)
trap 'rm -rf "$reports"' EXIT
python -m tests.report.browser.make "$reports"
REPORTS="$reports" node --test --test-concurrency=1 --test-reporter=spec tests/report/browser/*.test.mjs
