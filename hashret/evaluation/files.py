"""Writing result files whole: a reader finds the old content or the new, never a part."""

from __future__ import annotations

import contextlib
from pathlib import Path

from hashret.errors import StorageError


def write_whole(path: str | Path, content: str | bytes) -> Path:
    """Replace a file, making its directory where it is missing.

    Args:
        path: where to.
        content: text is written as UTF-8.

    Raises:
        StorageError: the disk or the path refuses; nothing is left behind.
    """
    path = Path(path)
    part = path.with_name(path.name + ".part")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        part.write_bytes(content.encode("utf-8") if isinstance(content, str) else content)
        part.replace(path)
    except OSError as error:
        with contextlib.suppress(OSError):
            part.unlink(missing_ok=True)
        raise StorageError(f"{str(path)!r} cannot be written: {error}") from error
    return path
