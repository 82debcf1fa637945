#!/usr/bin/env bash
# Lint, types and the fast tests; with --all also the slow, browser and real-engine ones. usage: scripts/test.sh [--all] [pytest options]
set -euo pipefail
cd "$(dirname "$0")/.."
scripts/setup.sh dev
PATH=$PWD/.venv/bin:$PATH:/usr/sbin
select=(-m 'not slow and not browser and not engine')
if [ "${1:-}" = --all ]; then select=(); shift; scripts/get_browser.sh; fi
ruff check --quiet .
ruff format --quiet --check .
mypy
run() { python -m pytest -q --timeout 300 "${select[@]}" "$@"; }
if [ $# -gt 0 ]; then run "$@"; exit; fi
# What starts no process and looks at no clock runs on all cores; the rest has them for itself, one test at a time.
pure=(tests/analysis tests/fuzz tests/plan tests/samples tests/serving tests/test_architecture.py tests/test_steering.py)
status=0
run -n auto "${pure[@]}" || status=$?
run "${pure[@]/#/--ignore=}" || status=$?
exit $status
