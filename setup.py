"""What pyproject.toml cannot say: the optional C extension, and configs/ as the package's data.

Where it cannot be built the install succeeds without it, and hashret searches with FAISS.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path

from setuptools import Extension, find_packages, setup

CSRC = Path("hashret/kernels/csrc")
UNIX = sys.platform != "win32"
OPTIMISE = [] if "-O" in os.environ.get("CFLAGS", "") else ["-O3"]

setup(
    # a wheel carries the configurations at hashret/configs, where a checkout has them beside the package
    packages=[*find_packages(include=["hashret", "hashret.*"]), "hashret.configs"],
    package_dir={"hashret.configs": "configs"},
    package_data={"hashret": ["py.typed"], "hashret.server": ["page/*"], "hashret.configs": ["*.yaml"]},
    ext_modules=[
        Extension(
            "hashret.kernels._native",
            sources=sorted(str(path) for path in CSRC.glob("*.c")),
            depends=sorted(str(path) for pattern in ("*.h", "*.inc") for path in CSRC.glob(pattern)),
            extra_compile_args=[*OPTIMISE, "-std=c11", "-fno-strict-aliasing", "-pthread"]
            if UNIX
            else ["/O2", "/std:c11"],
            extra_link_args=["-pthread"] if UNIX else [],
            optional=True,
        )
    ],
)
