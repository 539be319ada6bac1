#!/usr/bin/env bash
# What a GPU must show, in one table and under four minutes: run it from the repository's root on a machine with a GPU.
#
#     benchmarks/gpu_check.sh [PYTHON]
#
# It measures (see benchmarks/gpu.py), then runs the tests that are marked gpu.
set -euo pipefail
cd "$(dirname "$0")/.."
python=${1:-python3}
"$python" benchmarks/gpu.py
"$python" -m pytest -q -m gpu tests/test_gpu.py
