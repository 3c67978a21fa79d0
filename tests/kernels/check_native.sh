#!/usr/bin/env bash
# Build the C extension with the address and undefined-behaviour sanitizers, beside the usual build, and run the tests
# of the native back end and of multi-index hashing on it, at every SIMD level that this machine has.
#
#   tests/kernels/check_native.sh [PYTHON]
set -euo pipefail

root=$(cd "$(dirname "$0")/../.." && pwd)
python=$(command -v "${1:-python3}")
python=$(cd "$(dirname "$python")" && pwd)/$(basename "$python") # symbolic links kept: they are what makes a venv
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

cp -r "$root/hashret" "$root/setup.py" "$root/pyproject.toml" "$root/tests" "$work"
rm -f "$work"/hashret/kernels/_native*.so
cd "$work"
touch README.md
sanitize="-O1 -fsanitize=address,undefined -fno-sanitize-recover=all -fno-omit-frame-pointer -g"
CFLAGS="$sanitize" LDFLAGS="$sanitize" "$python" setup.py -q build_ext --inplace 2> build.log || true
ls hashret/kernels/_native*.so > /dev/null || { cat build.log >&2; exit 1; }

# Python itself is not instrumented: the runtime has to come first, and what Python never frees is no leak of ours.
export ASAN_OPTIONS=detect_leaks=0:allocator_may_return_null=1 UBSAN_OPTIONS=print_stacktrace=1
export PYTHONDONTWRITEBYTECODE=1
runtime=$("${CC:-gcc}" -print-file-name=libasan.so)
cxx=$("${CC:-gcc}" -print-file-name=libstdc++.so)
LD_PRELOAD="$runtime $cxx" "$python" -m pytest -q -p no:cacheprovider \
    tests/kernels/test_native*.py tests/index/test_mih*.py "tests/kernels/test_contract.py" -k "not faiss and not numpy"
echo "native: no finding of the address and undefined-behaviour sanitizers"
