"""Searching loads numpy (and faiss), and nothing that learns; proved in a fresh interpreter."""

from __future__ import annotations

import subprocess
import sys

import pytest

SEARCH = """
import sys
import hashret
assert "numpy" not in sys.modules, "import hashret loads the standard library only"
import numpy as np
codes = hashret.pack(np.eye(16) > 0)
index = hashret.FlatIndex(n_bits=16, backend={backend!r})
index.add(codes)
assert index.search(codes[3], k=2).rows[0, 0] == 3
assert index.search(np.repeat(codes, 8, axis=0), k=2).rows.shape == (128, 2)
assert index.range_search(codes[:2], 0).rows.tolist() == [0, 1]
index.search_asymmetric(np.eye(16)[:2], 3)
index.save({path!r})
type(index).open({path!r}).verify()
assert hashret.hamming(codes, codes).sum() == 2 * 16 * 15
loaded = {{"torch", "torchvision", "transformers", "timm", "scipy", "pandas", "PIL"}} & set(sys.modules)
assert not loaded, loaded
from hashret.kernels import choose_backend
assert ("faiss" in sys.modules) == (choose_backend({backend!r})[0] == "faiss")
"""


@pytest.mark.parametrize("backend", ["auto", "faiss", "numpy"])
def test_searching_loads_nothing_that_learns(tmp_path, backend):
    code = SEARCH.format(backend=backend, path=str(tmp_path / "flat"))
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
