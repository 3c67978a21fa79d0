"""Protocols as data: which items are asked, searched and learned from, and what counts as relevant.

    protocol.json   {"name", "dataset", "relevance", "query": [ids], "database": [ids], "train": [ids],
                     "validation": [ids], "exclude_train", "seed", "checksum": sha256 of all the rest}

A number is comparable with another only under one protocol, so a protocol is a file with a checksum, and every table
can name it. Knows ids, and nothing of codes, models or how data are read.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Any, Literal, NamedTuple, get_args

import numpy as np
from numpy.typing import NDArray

from hashret._files import write_whole
from hashret.config import build
from hashret.errors import CorruptError, DataError, InputError

RelevanceRule = Literal["labels", "instance"]


class SearchRows(NamedTuple):
    """Rows of a data set that a protocol measures, each (n,) int64, in the order of its ids."""

    query: NDArray[np.int64]
    database: NDArray[np.int64]


@dataclass(frozen=True)
class Protocol:
    """What is measured on what.

    Attributes:
        name: what tables call it.
        dataset: name of the data set.
        relevance: "labels" (at least one shared label) or "instance" (the same pair).
        query: ids of the test queries.
        database: ids of what is searched.
        train: ids learned from; in this field often a part of the database.
        validation: ids that choices are made on, apart from query and train.
        exclude_train: search the database without what was learned from.
        seed: that drew the split; None where it is given (an official split).
    """

    name: str
    dataset: str
    relevance: RelevanceRule
    query: tuple[str, ...]
    database: tuple[str, ...]
    train: tuple[str, ...]
    validation: tuple[str, ...] = ()
    exclude_train: bool = False
    seed: int | None = None

    def __post_init__(self) -> None:
        if self.relevance not in get_args(RelevanceRule):
            raise InputError(f"relevance is 'labels' or 'instance', not {self.relevance!r}")
        for name in ("query", "database", "train", "validation"):
            ids = getattr(self, name)
            if len(set(ids)) != len(ids):
                raise InputError(f"the {name} ids of protocol {self.name!r} repeat; each item belongs there once")
        self._apart("query", "train", "validation")
        if self.relevance == "labels":
            self._apart("query", "database")
        elif not set(self.query) <= set(self.database):
            raise InputError(f"protocol {self.name!r} asks for pairs, and its database lacks some of the queries")

    def _apart(self, *names: str) -> None:
        for i, left in enumerate(names):
            for right in names[i + 1 :]:
                shared = set(getattr(self, left)) & set(getattr(self, right))
                if shared:
                    raise InputError(
                        f"protocol {self.name!r} has {len(shared):,} ids in both {left} and {right}, "
                        f"such as {min(shared)!r}; that leaks"
                    )

    @property
    def searched(self) -> tuple[str, ...]:
        """The ids that are searched: the database, without the training items if so chosen."""
        if not self.exclude_train:
            return self.database
        learned = set(self.train)
        return tuple(id_ for id_ in self.database if id_ not in learned)

    @property
    def checksum(self) -> str:
        """sha256 over everything that defines the protocol, its name apart."""
        content = {key: value for key, value in self._plain().items() if key != "name"}
        return hashlib.sha256(json.dumps(content, sort_keys=True, ensure_ascii=False).encode()).hexdigest()

    def without_train(self) -> Protocol:
        """The same with the training items taken out of the database; tables print both."""
        return replace(self, exclude_train=True)

    def searching(self, ids: Sequence[str]) -> SearchRows:
        """Where the items lie that are asked and searched; those to learn from may be elsewhere.

        Args:
            ids: of the data set's records, in row order.

        Raises:
            DataError: the protocol names items that the data set does not have.
        """
        place = {id_: row for row, id_ in enumerate(ids)}
        return SearchRows(self._of(place, "query", self.query), self._of(place, "database", self.searched))

    def _of(self, place: Mapping[str, int], name: str, wanted: tuple[str, ...]) -> NDArray[np.int64]:
        missing = [id_ for id_ in wanted if id_ not in place]
        if missing:
            raise DataError(
                f"protocol {self.name!r} has {len(missing):,} {name} ids that are not in the data set, such as "
                f"{missing[0]!r}; is it the protocol of another data set than {self.dataset!r}?"
            )
        return np.fromiter((place[id_] for id_ in wanted), dtype=np.int64, count=len(wanted))

    def save(self, path: str | Path) -> None:
        """Write the protocol with its checksum."""
        text = json.dumps({**self._plain(), "checksum": self.checksum}, indent=1, ensure_ascii=False)
        write_whole(Path(path), text + "\n")

    @classmethod
    def load(cls, path: str | Path) -> Protocol:
        """Read a protocol.

        Raises:
            DataError: no such file, or not a protocol.
            ConfigError: an unknown or missing key, or a value of the wrong kind.
            CorruptError: the content is not the one that was saved.
        """
        try:
            content: Any = json.loads(Path(path).read_text(encoding="utf-8"))
        except FileNotFoundError as error:
            raise DataError(f"there is no protocol {str(path)!r}") from error
        except (OSError, UnicodeDecodeError, json.JSONDecodeError) as error:
            raise DataError(f"{str(path)!r} cannot be read as a protocol: {error}") from error
        if not isinstance(content, dict) or "checksum" not in content:
            raise DataError(f"{str(path)!r} is no protocol: it has no checksum")
        expected = content.pop("checksum")
        protocol = build(cls, content, where=f"the protocol {str(path)!r}")
        if protocol.checksum != expected:
            raise CorruptError(f"{str(path)!r} was changed after it was saved: its checksum does not fit its content")
        return protocol

    def _plain(self) -> dict[str, Any]:
        return {field.name: getattr(self, field.name) for field in fields(self)}


def draw_protocol(
    ids: Sequence[str],
    *,
    name: str,
    dataset: str,
    n_query: int,
    n_train: int,
    n_validation: int = 0,
    relevance: RelevanceRule = "labels",
    exclude_train: bool = False,
    seed: int = 0,
) -> Protocol:
    """Split as the field does it: queries at random, everything else the database, training items drawn from it.

    With "instance", where each query looks for its own pair, the queries are the database and the rest is learned from.

    Args:
        ids: of all items; their order does not matter.
        name: what tables call it.
        dataset: name of the data set.
        n_query: test queries.
        n_train: items to learn from, drawn from what is not asked.
        n_validation: further ones of those, to choose on.
        relevance: "labels" or "instance".
        exclude_train: search the database without the training items.
        seed: of the draw.

    Raises:
        InputError: more items wanted than there are.
    """
    if min(n_query, n_train, n_validation) < 0 or n_query < 1 or n_query + n_train + n_validation > len(ids):
        raise InputError(
            f"{n_query:,} queries, {n_train:,} training and {n_validation:,} validation items cannot be drawn "
            f"from {len(ids):,}"
        )
    order = np.random.default_rng(seed).permutation(len(ids))
    shuffled = [sorted(ids)[row] for row in order]
    query, rest = shuffled[:n_query], shuffled[n_query:]
    return Protocol(
        name=name,
        dataset=dataset,
        relevance=relevance,
        query=tuple(query),
        database=tuple(rest if relevance == "labels" else query),
        train=tuple(rest[:n_train]),
        validation=tuple(rest[n_train : n_train + n_validation]),
        exclude_train=exclude_train,
        seed=seed,
    )
