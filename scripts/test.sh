#!/usr/bin/env bash
# Lint, types and the fast tests; with --all also the slow, browser and real-engine ones. usage: scripts/test.sh [--all] [pytest options]
set -euo pipefail
cd "$(dirname "$0")/.."
scripts/setup.sh dev
PATH=$PWD/.venv/bin:$PATH:/usr/sbin
select=(-m 'not slow and not browser and not engine')
if [ "${1:-}" = --all ]; then select=(); shift; scripts/get_browser.sh; fi
ruff check --quiet . && ruff format --quiet --check .
mypy
exec python -m pytest -q --timeout 300 "${select[@]}" "$@"
