"""``python -m hashret`` is the command line."""

from __future__ import annotations

import sys

from hashret.cli import main

sys.exit(main())
