"""Data: records from files, folders and built-in sets; splits; decoding.

    dataset = open_dataset("captions.jsonl")
    dataset.splits                                   # {"train": 6000, "val": 1000, "test": 1000}
    picture = decode_image(dataset[0].image)         # upright RGB

Knows files and Pillow, and no torch. What a picture or a caption means is the encoders' work.
"""

from __future__ import annotations

from hashret.data.decode import MAX_PIXELS, ImageSource, decode_image, middle_of, readable_images
from hashret.data.open import BUILT_IN, open_dataset
from hashret.data.readers import READERS
from hashret.data.records import Dataset, Record, Skipped
from hashret.data.splits import load_splits, save_splits, split_records

__all__ = [
    "BUILT_IN",
    "MAX_PIXELS",
    "READERS",
    "Dataset",
    "ImageSource",
    "Record",
    "Skipped",
    "decode_image",
    "load_splits",
    "middle_of",
    "open_dataset",
    "readable_images",
    "save_splits",
    "split_records",
]
