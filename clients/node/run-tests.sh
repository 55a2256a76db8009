#!/bin/sh
# Installs what the script needs and runs it against a real daemon. PYTHON: an interpreter with rund[daemon] and pytest.
set -eu
cd "$(dirname "$0")"
PYTHON=${PYTHON:-$PWD/../../.venv/bin/python}
for tool in node npm "$PYTHON"; do
  command -v "$tool" >/dev/null || { echo "run-tests.sh needs $tool" >&2; exit 1; }
done
npm ci
cd ../..
exec "$PYTHON" -m pytest -m node tests/conformance "$@"
