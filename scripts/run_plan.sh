#!/usr/bin/env bash
# The main job: measure a plan, analyse it, write the report. usage: scripts/run_plan.sh PLAN [options of `loadstair run`]
set -euo pipefail
root=$(cd "$(dirname "$0")/.." && pwd)
"$root/scripts/setup.sh"
exec "$root/.venv/bin/python" -m loadstair run "$@"
