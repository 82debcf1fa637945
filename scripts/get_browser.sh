#!/usr/bin/env bash
# Chromium for the browser tests, where it may be installed (root on Debian or Ubuntu). Without it they are skipped, with the reason.
set -euo pipefail
command -v chromium >/dev/null && exit 0
if [ "$(id -u)" = 0 ] && command -v apt-get >/dev/null; then
  apt-get update -qq >/dev/null && DEBIAN_FRONTEND=noninteractive apt-get install -qq -y chromium >/dev/null && exit 0
fi
echo "loadstair: chromium not found: the browser tests are skipped (Debian/Ubuntu: apt-get install chromium)" >&2
