#!/usr/bin/env bash
# Makes .venv with the pinned requirements and this package, and gets nginx and python3-venv where it may (root on
# Debian or Ubuntu); otherwise says what to install. Reuses what is there. usage: scripts/setup.sh [dev]
set -euo pipefail
cd "$(dirname "$0")/.."

say() { printf 'loadstair: %s\n' "$*" >&2; }

install_package() {  # $1: Debian package
  if [ "$(id -u)" = 0 ] && command -v apt-get >/dev/null; then
    say "installing $1"
    DEBIAN_FRONTEND=noninteractive apt-get install -qq -y "$1" >/dev/null 2>&1 ||
      { apt-get update -qq >/dev/null && DEBIAN_FRONTEND=noninteractive apt-get install -qq -y "$1" >/dev/null; }
  else
    return 1
  fi
}

python=${PYTHON:-python3}
command -v "$python" >/dev/null || install_package python3 || { say "python3 not found: install Python 3.11 or newer"; exit 2; }
"$python" -c 'import sys; sys.exit(sys.version_info < (3, 11))' ||
  { say "$("$python" --version) is too old: Loadstair needs Python 3.11 or newer (set PYTHON=/path/to/python3.11)"; exit 2; }

PATH=$PATH:/usr/sbin:/sbin
if ! command -v nginx >/dev/null; then
  if install_package nginx; then  # Debian starts it on port 80; Loadstair runs its own, unprivileged
    if [ -d /run/systemd/system ]; then systemctl disable --quiet --now nginx || true; fi
  else
    say "nginx not found: topologies with a balancer need it (Debian/Ubuntu: apt-get install nginx)"
  fi
fi

if [ ! -x .venv/bin/python ] || [ ! -f .venv/.made ]; then  # a venv that was interrupted half-way has no mark
  "$python" -m venv --clear .venv 2>/dev/null ||
    { install_package python3-venv && "$python" -m venv --clear .venv; } ||
    { say "python3-venv not found: install it (Debian/Ubuntu: apt-get install python3-venv)"; exit 2; }
  touch .venv/.made
fi

# The stamp holds what was installed: anything newer or other means installing again.
wanted=$(cat requirements.txt requirements-dev.txt pyproject.toml | cksum)
for extra in base "$@"; do
  stamp=.venv/.installed-$extra
  [ -f "$stamp" ] && [ "$(cat "$stamp")" = "$wanted" ] && continue
  say "installing the pinned requirements ($extra) into .venv"
  rm -f "$stamp"
  case $extra in
    base) .venv/bin/python -m pip install --quiet --disable-pip-version-check -r requirements.txt
          .venv/bin/python -m pip install --quiet --disable-pip-version-check --no-deps --editable . ;;
    dev)  .venv/bin/python -m pip install --quiet --disable-pip-version-check -r requirements-dev.txt ;;
    *)    say "no such extra: $extra (dev)"; exit 2 ;;
  esac
  printf '%s' "$wanted" > "$stamp"
done
