"""Which record belongs to which split: drawn with a seed, saved, and read back.

Knows ids, picture paths and groups; never what is in a picture.
"""

from __future__ import annotations

import hashlib
import json
import logging
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import MappingProxyType
from typing import Any

from hashret._files import write_whole
from hashret._text import is_text
from hashret.data.files import spelling_of
from hashret.data.readers._rows import check_pictures, read_text, split_name
from hashret.data.readers._values import load_json
from hashret.data.records import Dataset, with_splits
from hashret.errors import DataError

FRACTIONS: Mapping[str, float] = MappingProxyType({"train": 0.8, "val": 0.1, "test": 0.1})

logger = logging.getLogger(__name__)


def split_records(
    dataset: Dataset,
    *,
    fractions: Mapping[str, float] = FRACTIONS,
    seed: int = 0,
    groups: Sequence[str] | None = None,
) -> Dataset:
    """``dataset`` with a split for every record.

    Whole groups are dealt out in the order of sha256(seed, group), so the result depends on the ids and the seed
    alone: neither on the order of the records nor on a library's random numbers. Every split with a
    fraction above 0 gets a record while there are enough groups.

    Args:
        dataset: records with or without splits; existing ones are replaced.
        fractions: split -> share of the records, adding up to 1.
        seed: another seed gives another division.
        groups: (N,) a name for each record; records of one group stay together. By default, records with the same
            picture are a group.

    Raises:
        DataError: fractions that are no shares, or ``groups`` of another length.
    """
    names = _check_fractions(fractions)
    if groups is None:
        groups = [spelling_of(record.image) if record.image is not None else record.id for record in dataset]
        groups = _first_ids(dataset, groups)  # a path would tie the division to one machine
    elif len(groups) != len(dataset):
        raise DataError(f"{len(groups)} groups were given for {len(dataset)} records; give one a record")
    members: dict[str, list[int]] = {}
    for row, group in enumerate(groups):
        members.setdefault(group, []).append(row)
    order = sorted(members, key=lambda group: hashlib.sha256(f"{seed}\n{group}".encode()).digest())
    wanted = _counts(len(dataset), len(order), [fractions[name] for name in names])
    assigned: list[str | None] = [None] * len(dataset)
    # The smallest split is filled first, by the groups that fit: the counts come out exact wherever they can.
    left = dict(sorted(zip(names, wanted), key=lambda pair: pair[1]))
    for group in order:
        size = len(members[group])
        chosen = next((name for name in left if left[name] >= size), max(left, key=lambda name: left[name]))
        left[chosen] -= size
        for row in members[group]:
            assigned[row] = chosen
    return with_splits(dataset, assigned)


def save_splits(dataset: Dataset, path: str | Path) -> None:
    """Write the ids of every split, with a checksum, as JSON; the file appears whole or not at all.

    Raises:
        DataError: an id or the name of a split is no text.
        StorageError: it cannot be written.
    """
    ids: dict[str, list[str]] = {name: [] for name in dataset.splits}
    for record in dataset:
        if record.split is not None:
            if not is_text(record.id + record.split):
                raise DataError(
                    f"the id {record.id!r} or its split {record.split!r} holds half a surrogate pair; give it as UTF-8"
                )
            ids[record.split].append(record.id)
    content = {
        "format": "hashret splits",
        "version": 1,
        "data": dataset.name,
        "checksum": _checksum(ids),
        "splits": ids,
    }
    write_whole(path, json.dumps(content, ensure_ascii=False, indent=1), what="the splits")


def load_splits(dataset: Dataset, path: str | Path) -> Dataset:
    """``dataset`` with the splits of a file that ``save_splits`` wrote, or of ``{"splits": {"train": [ids]}}``.

    Records that the file does not name are in no split, with a warning.

    Raises:
        DataError: as ``read_splits``; or the file names ids that ``dataset`` does not hold, or parts the records of one
            picture.
    """
    assigned = read_splits(path)
    unknown = sorted(assigned.keys() - set(dataset.ids))
    if unknown:
        raise DataError(
            f"{len(unknown)} of the {len(assigned)} ids in {str(path)!r} are not in {dataset.name!r}, such as "
            f"{unknown[0]!r}; the splits belong to other data, or pictures are missing"
        )
    check_pictures((record.image, assigned.get(record.id), f"{path}, id {record.id!r}") for record in dataset)
    left = len(dataset) - len(assigned)
    if left:
        logger.warning("%d records of %s are in none of the splits of %s", left, dataset.name, path)
    return with_splits(dataset, [assigned.get(record.id) for record in dataset])


def read_splits(path: str | Path) -> dict[str, str]:
    """Id -> split, from a file that ``load_splits`` takes.

    What ``save_splits`` wrote comes back as it was; in a file by another hand, ``Train`` and ``restval`` are ``train``,
    as in a file of captions.

    Raises:
        DataError: the file is missing, is no split file, does not match its checksum, or names an id twice.
    """
    path = Path(path)
    content: Any = load_json(read_text(path), path)
    ids = content.get("splits") if isinstance(content, dict) else None
    if not isinstance(ids, dict) or not all(
        isinstance(names, list) and all(isinstance(name, str) for name in names) for names in ids.values()
    ):
        raise DataError(f'{str(path)!r} is no file of splits; it must hold {{"splits": {{"train": [ids], …}}}}')
    if "checksum" in content and content["checksum"] != _checksum(ids):
        raise DataError(
            f"the ids in {str(path)!r} do not match its checksum: it was changed by hand or damaged; "
            f"save the splits anew, or remove the checksum to accept the change"
        )
    own = content.get("format") == "hashret splits"
    assigned: dict[str, str] = {}
    for written, names in ids.items():
        split = written if own else split_name(written)
        for name in names:
            if name in assigned:
                raise DataError(f"{str(path)!r} names the id {name!r} twice, in {assigned[name]!r} and {split!r}")
            assigned[name] = split
    return assigned


def _check_fractions(fractions: Mapping[str, float]) -> list[str]:
    for name, share in fractions.items():
        number = isinstance(share, int | float) and not isinstance(share, bool) and math.isfinite(share)
        if not number or not 0.0 <= share <= 1.0:
            raise DataError(f"the share of the split {name!r} must be a number from 0 to 1, and not {share!r}")
    total = sum(fractions.values())
    if abs(total - 1.0) > 1e-6:
        raise DataError(f"the shares of the splits must add up to 1, and {dict(fractions)} add up to {total:g}")
    return [name for name, share in fractions.items() if share > 0]


def _first_ids(dataset: Dataset, groups: Sequence[str]) -> list[str]:
    first: dict[str, str] = {}
    for record, group in zip(dataset, groups):
        first[group] = min(first.get(group, record.id), record.id)
    return [first[group] for group in groups]


def _counts(n_records: int, n_groups: int, shares: Sequence[float]) -> list[int]:
    """Records a split, by largest remainder, none at 0 while there are groups to give."""
    counts = [int(share * n_records) for share in shares]
    by_remainder = sorted(range(len(shares)), key=lambda i: counts[i] - shares[i] * n_records)
    for i in by_remainder[: n_records - sum(counts)]:
        counts[i] += 1
    while 0 in counts and n_groups >= len(shares):
        counts[counts.index(0)] += 1
        counts[counts.index(max(counts))] -= 1
    return counts


def _checksum(ids: Mapping[str, Sequence[str]]) -> str:
    content = json.dumps({name: sorted(ids[name]) for name in sorted(ids)}, ensure_ascii=True)
    return hashlib.sha256(content.encode()).hexdigest()
