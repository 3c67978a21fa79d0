"""One door to all data: a path or a built-in name in, a data set with splits out."""

from __future__ import annotations

import logging
from pathlib import Path

from hashret.data.files import is_folder
from hashret.data.readers import read
from hashret.data.records import Dataset
from hashret.data.splits import load_splits, split_records
from hashret.errors import DataError
from hashret.registry import Registry

BUILT_IN = Registry("built-in data set", {"emoji": "hashret.data.emoji:load_emoji"})

logger = logging.getLogger(__name__)


def open_dataset(
    spec: str | Path,
    *,
    seed: int = 0,
    splits: str | Path | None = None,
    strict: bool = False,
    images_root: str | Path | None = None,
    format: str | None = None,
) -> Dataset:
    """The data at a path, or a built-in data set.

    Where the source divides its records into splits, that division stands. Where it does not, 80 / 10 / 10 percent
    go to train, val and test, by picture, with ``seed``.

    Args:
        spec: a JSON-lines, CSV or Karpathy file, a folder of pictures, tar shards (one or a folder of them), or
            ``"emoji"``; a file or folder that is called like a built-in set is given as ``"./emoji"``.
        seed: for data that comes without splits.
        splits: a file of ``save_splits``; it replaces the splits of the source.
        strict: refuse missing pictures, empty captions and items with neither. Otherwise they are left out, with a
            warning and their names in ``Dataset.skipped``.
        images_root: what picture paths are relative to; the folder of the file by default.
        format: the reader (``READERS.names()``); told from the name and the content by default.

    Raises:
        DataError: the data cannot be used; the sentence names the file and the line.
        MissingExtraError: a built-in set whose packages are not installed.
    """
    if isinstance(spec, str) and spec in BUILT_IN.names():
        dataset: Dataset = BUILT_IN.load(spec)()
    else:
        path = Path(spec).expanduser()
        root = Path(images_root).expanduser() if images_root is not None else None
        if root is not None and not is_folder(root):
            raise DataError(f"images_root {str(root)!r} is no folder")
        records, skipped = read(path, format=format, images_root=root, strict=strict)
        dataset = Dataset(path.stem if path.is_file() else path.resolve().name, records, skipped=skipped)
        if skipped.count:
            logger.warning("%s: %s", path, skipped.summary())
    if splits is not None:
        return load_splits(dataset, splits)
    return dataset if dataset.splits else split_records(dataset, seed=seed)
