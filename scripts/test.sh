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
# Tests that hold times against times, or need a run to be valid, have all cores for themselves, one at a time; the others share them, each file on
# one core.
timed=(tests/calibrate tests/simserver tests/test_main_job.py tests/test_matrix_job.py tests/test_real_engine.py
  tests/test_loss.py tests/test_resume.py tests/test_resumed_climb.py tests/drive/test_hosts.py)
status=0
run -n auto --dist loadfile tests "${timed[@]/#/--ignore=}" || status=$?
run "${timed[@]}" || status=$?
exit $status
