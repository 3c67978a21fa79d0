"""What pyproject.toml cannot say: the optional C extension, and configs/ as the package's data.

Where it cannot be built the install succeeds without it, and hashret searches with FAISS.
"""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

from setuptools import Extension, find_packages, setup
from setuptools.command.build_ext import build_ext

CSRC = Path("hashret/kernels/csrc")
UNIX = sys.platform != "win32"
OPTIMISE = [] if "-O" in os.environ.get("CFLAGS", "") else ["-O3"]
# Intel's processors up to Cascade Lake decode a branch across a boundary of 32 bytes anew each time it comes: a batch
# of queries then takes a third longer, or not, as the linker happens to place it
BRANCHES = "-Wa,-mbranches-within-32B-boundaries"


class Build(build_ext):
    """The usual build, with ``BRANCHES`` where the compiler knows it."""

    def build_extension(self, ext: Extension) -> None:
        if UNIX:
            trial = [*self.compiler.compiler_so, BRANCHES, "-xc", "-c", os.devnull, "-o", os.devnull]
            try:
                known = subprocess.run(trial, capture_output=True, check=False).returncode == 0
            except OSError:  # no compiler; the build says so
                known = False
            if known:
                ext.extra_compile_args.append(BRANCHES)
        super().build_extension(ext)


setup(
    cmdclass={"build_ext": Build},
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
