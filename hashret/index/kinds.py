"""The kinds of index by name, and opening a file whatever its kind. Must not know how any of them works."""

from __future__ import annotations

from pathlib import Path

from hashret.errors import StorageError
from hashret.index.contract import CodeIndex
from hashret.index.storage import read_index
from hashret.registry import Registry

INDEXES = Registry(
    "kind of index",
    {
        "flat": "hashret.index.flat:FlatIndex",
        "hnsw": "hashret.index.hnsw:HNSWIndex",
        "ivf": "hashret.index.ivf:IVFIndex",
        "mih": "hashret.index.mih:MIHIndex",
    },
)
"""Name, as it stands in a file -> class."""


def open_index(path: str | Path, *, mmap: bool = True) -> CodeIndex:
    """Open an index file of any kind.

    Args:
        path: what the ``save`` of an index wrote.
        mmap: map the codes instead of reading them.

    Raises:
        CorruptError: foreign, truncated or damaged.
        VersionError: from a later hashret.
        StorageError: missing, unreadable, or of a kind that is not known here.
    """
    kind = read_index(path, mmap=True).kind
    if kind not in INDEXES.names():
        raise StorageError(
            f"the index file {str(path)!r} has the kind {kind!r}, and this hashret knows {', '.join(INDEXES.names())}; "
            "install a newer hashret"
        )
    index: CodeIndex = INDEXES.load(kind).open(path, mmap=mmap)
    return index
