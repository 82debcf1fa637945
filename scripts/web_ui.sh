#!/usr/bin/env bash
# Locust's web UI with live LLM numbers. Without --host (or OPENAI_BASE_URL) a simulated engine is started to look at.
# usage: scripts/web_ui.sh [--host URL] [options of locust]
set -euo pipefail
root=$(cd "$(dirname "$0")/.." && pwd)
"$root/scripts/setup.sh"

engine= log=
clean_up() { [ -z "$engine" ] || kill "$engine" 2>/dev/null || true; [ -z "$log" ] || rm -f "$log"; }
trap clean_up EXIT

case " $* " in *" --host"*|*" -H"*|*" --worker"*|*" --help"*|*" -h "*) given=yes ;; *) given=${OPENAI_BASE_URL:-${LOCUST_HOST:-}} ;; esac
if [ -z "$given" ]; then
  log=$(mktemp)
  "$root/.venv/bin/python" -m loadstair simserver --port 0 --model Qwen/Qwen2.5-32B-Instruct --gpu h100-nvl --tp 2 >"$log" &
  engine=$!
  until url=$(sed -n 's/^listening on //p' "$log") && [ -n "$url" ]; do kill -0 "$engine"; sleep 0.1; done
  echo "loadstair: a simulated engine answers at $url" >&2
  set -- --host "$url" "$@"
  "$root/.venv/bin/locust" -f "$root/locustfiles/chat.py" "$@"
  exit
fi
# In this process: who stops the script stops Locust.
exec "$root/.venv/bin/locust" -f "$root/locustfiles/chat.py" "$@"
