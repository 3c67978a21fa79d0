"""From pictures to a collection: a data set once, or a folder again and again.

    index_dataset(model, dataset, "photos.hashret")          a new collection from a data set with captions
    with FolderIndex.open("photos", "photos.hashret") as index:
        index.update()                                        only what is new or has changed is encoded
        watch_folder(index)                                   the same, until it is stopped

Sits beside the engine: it uses data, models and collections, and neither server nor command line.
"""

from __future__ import annotations

from hashret.indexing.changes import Changes
from hashret.indexing.dataset import index_dataset
from hashret.indexing.default_model import default_model
from hashret.indexing.folder import FolderIndex
from hashret.indexing.walk import Found, Walk, walk_folder
from hashret.indexing.watch import watch_folder

__all__ = [
    "Changes",
    "FolderIndex",
    "Found",
    "Walk",
    "default_model",
    "index_dataset",
    "walk_folder",
    "watch_folder",
]
