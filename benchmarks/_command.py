"""How a benchmark is run as a command: what is wrong with its data is one sentence, and nothing else."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path


def run(main: Callable[[], None]) -> None:
    """Call ``main``, and end with the message of an error that its user can mend."""
    try:
        main()
    except Exception as error:
        from hashret.errors import HashretError  # only here: some set a number of threads before they import anything

        if isinstance(error, HashretError):
            raise SystemExit(f"{Path(sys.argv[0]).name}: {error}") from None
        raise
