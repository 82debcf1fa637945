#!/usr/bin/env bash
# All that a worker host needs: sends load for a plan that is measured on another host (docs/workers.md).
# usage: scripts/run_worker.sh MASTER[:PORT] [options of `loadstair worker`]
set -euo pipefail
root=$(cd "$(dirname "$0")/.." && pwd)
"$root/scripts/setup.sh"
exec "$root/.venv/bin/python" -m loadstair worker "$@"
