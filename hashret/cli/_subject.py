"""What ``hashret eval`` measures: a model on data, or arrays of codes from elsewhere.

Turns arguments into codes; measures nothing, and loads torch for a model only.
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from hashret._lazy import require
from hashret.cli._common import check_target, given_of_data
from hashret.errors import DataError, InputError

if TYPE_CHECKING:
    from hashret.data import Dataset
    from hashret.evaluation.coded import Coded
    from hashret.evaluation.protocols import Protocol
    from hashret.model import CrossModalHasher


class Subject(NamedTuple):
    """What is measured: codes, the database apart from them, code lengths; records, model and protocol where known."""

    coded: Coded
    database: Coded | None
    lengths: tuple[int, ...]
    dataset: Dataset | None
    model: CrossModalHasher | None = None
    protocol: Protocol | None = None


def check(args: argparse.Namespace) -> None:
    """Refuse arguments that do not go together."""
    if bool(args.model) == bool(args.codes):
        raise InputError(
            "give what to measure: the directory of a model, or --codes IMAGES TEXTS"
            + (" and not both" if args.model else "")
        )
    if args.model and args.data is None:
        raise InputError("--data is missing: give the pictures and captions to measure the model on")
    if args.cut is not None and not args.convention:
        raise InputError("--cut belongs to --as; to cut a measure give its whole name, as in --measures 'NDCG@50'")
    if args.cut is not None and args.cut < 1:
        raise InputError(f"--cut is a number of ranks, 1 or more, and not {args.cut}")
    for path in filter(None, (args.out, args.html)):
        check_target(path)
    if args.html:
        require("matplotlib", extra="report")
    if args.protocol is not None:
        again = [name for name, given in (("--codes", args.codes), ("--database", args.database)) if given]
        again += [name for name in given_of_data(args) if name != "--strict"]
        if again:
            raise InputError(f"--protocol names what a model is asked and what it searches; leave {again[0]} out")
    if args.rerank is not None and args.codes:
        raise InputError("--rerank belongs to a model; codes from elsewhere have nothing to re-rank with")
    if args.rerank is not None and args.rerank < 1:
        raise InputError(f"--rerank says how many of the nearest items are re-ranked, 1 or more, and not {args.rerank}")
    given = [name for name in ("owner", "labels", "database_codes", "database_owner", "database_labels")
             if getattr(args, name) is not None]  # fmt: skip
    if args.model and given:
        raise InputError(f"--{given[0].replace('_', '-')} belongs to --codes; a model's come from --data")
    if args.codes and args.database:
        raise InputError("--database names a split that a model encodes; for codes give --database-codes IMAGES TEXTS")
    if args.codes:
        _check_unused(args)
    if (args.database_labels or args.database_owner) and not args.database_codes:
        raise InputError("--database-labels and --database-owner belong to --database-codes IMAGES TEXTS")
    if args.database_codes and args.database_labels is None:
        raise InputError("a database apart from the queries has no pair of theirs: give --labels and --database-labels")


def _check_unused(args: argparse.Namespace) -> None:
    """Refuse options that codes from elsewhere, or codes without data, have no use for."""
    of_a_model = {"--again": args.again, "--device": args.device != "auto", "--cache": args.cache is not None}
    for name, given in of_a_model.items():
        if given:
            raise InputError(f"{name} belongs to a model, and --codes were encoded elsewhere; leave it out")
    unused = given_of_data(args) if args.data is None else []
    if unused:
        raise InputError(f"{unused[0]} belongs to --data; give the data that the codes were made from, or leave it out")


def of_model(args: argparse.Namespace) -> Subject:
    """The codes that a model gives the pictures and captions of a split."""
    from hashret.cli._common import open_data, readable
    from hashret.evaluation.protocols import Protocol
    from hashret.model import CrossModalHasher
    from hashret.model.rescoring import required
    from hashret.training.measure import check_lengths, encode_dataset

    model = CrossModalHasher.load(args.model, device=args.device)
    lengths = check_lengths(model, args.bits)
    if args.rerank is not None:
        required(model)
    data, protocol = open_data(args), None
    if args.protocol is not None:
        protocol = Protocol.load(args.protocol)
        dataset, searched = _named(data, protocol)
    else:
        dataset = data.split(args.split) if args.split else data
        searched = data.split(args.database) if args.database else None
    _check_unseen(args, dataset.paired())
    wanted = [part and len(part) for part in (dataset, searched)]
    dataset = readable(dataset, strict=args.strict).paired()
    searched = readable(searched, strict=args.strict) if searched is not None else None
    if protocol is not None and wanted != [part and len(part) for part in (dataset, searched)]:
        raise DataError(
            f"some records of protocol {protocol.name!r} have no readable picture or no caption, and figures without "
            f"them are not the protocol's; repair them, or draw a protocol of those that can be measured"
        )
    coded = encode_dataset(model, dataset, cache_dir=args.cache)
    database = encode_dataset(model, searched, cache_dir=args.cache) if searched is not None else None
    return Subject(coded, database, lengths, dataset, model, protocol)


def _check_unseen(args: argparse.Namespace, dataset: Dataset) -> None:
    """Refuse to measure on what the run of the model learned from or was chosen by, under another split's name.

    Data without splits are divided anew by ``--split-seed``, which need not be the run's division.
    """
    from hashret.cli._common import quoted
    from hashret.data.files import is_file
    from hashret.data.splits import read_splits

    path = Path(args.model).resolve().parent / "splits.json"
    chosen = args.protocol is None and (args.splits is not None or args.split in (None, "", "train"))
    if chosen or not is_file(path):
        return
    used = ("train",) if args.protocol is None and args.split == "val" else ("train", "val")
    of_run = read_splits(path)
    seen = [id for id in dataset.ids if of_run.get(id) in used]
    if seen:
        remedy = (
            f"give --splits {quoted(path)} for the run's own splits (or another file of splits, if these are other "
            f"items of the same ids)"
            if args.protocol is None
            else "draw the queries of the protocol among the run's test split"
        )
        raise DataError(
            f"{len(seen):,} of the {len(dataset):,} items to measure, such as {seen[0]!r}, are in the run's "
            f"{' or '.join(used)} split: its model has seen them, and figures on them say nothing; {remedy}"
        )


def _named(data: Dataset, protocol: Protocol) -> tuple[Dataset, Dataset | None]:
    """The records that a protocol asks with, and those that it searches where they are others."""
    rows = protocol.searching(data.ids)
    asked, searched = data.subset(rows.query), data.subset(rows.database)
    if protocol.relevance == "labels":
        return asked, searched
    if set(rows.query) != set(rows.database):
        raise DataError(
            f"protocol {protocol.name!r} searches other items than the queries' own, and pairs are measured among the "
            f"queries; use relevance: labels for a database apart from them"
        )
    return asked, None


def of_arrays(args: argparse.Namespace) -> Subject:
    """Codes from .npy files; owners and labels from files, or from the data that they were made from."""
    from hashret.cli._common import open_split
    from hashret.evaluation.foreign import as_coded, length_of, read_array

    images, texts = (read_array(path, what=what) for path, what in zip(args.codes, ("image codes", "text codes")))
    owner = read_array(args.owner, what="owners") if args.owner else None
    labels = read_array(args.labels, what="labels") if args.labels else None
    dataset = open_split(args).paired() if args.data is not None else None
    if dataset is not None:
        captions, rows = dataset.captions_flat()
        if (len(dataset), len(captions)) != (len(images), len(texts)):
            raise DataError(
                f"there are {len(images):,} image codes and {len(texts):,} text codes, and {str(args.data)!r} has "
                f"{len(dataset):,} pictures with {len(captions):,} captions in the split {args.split!r}; give the data "
                f"and the split that they were made from"
            )
        owner = rows if owner is None else owner
        labels = dataset.label_matrix() if labels is None and dataset.label_names else labels
    longest = max(args.bits) if args.bits else None
    n_bits = length_of(images, texts, at_least=longest) or longest  # --bits may ask for prefixes only
    coded = as_coded(images, texts, n_bits=n_bits, owner=owner, labels=labels)
    if args.html and dataset is not None and (apart := (coded.owner != rows)).any():
        first = int(apart.argmax())
        raise DataError(
            f"--owner gives text code {first} to picture {coded.owner[first]}, and {str(args.data)!r} has a caption of "
            f"picture {rows[first]} there, so that a report would show other words than were encoded; put the text "
            f"codes in the order of the data, or leave out --data or --html"
        )
    database = None
    if args.database_codes:
        arrays = (read_array(path, what="database codes") for path in args.database_codes)
        of_database = read_array(args.database_owner, what="owners") if args.database_owner else None
        classes = read_array(args.database_labels, what="labels")
        database = as_coded(*arrays, n_bits=coded.n_bits, owner=of_database, labels=classes)
    return Subject(coded, database, args.bits or (coded.n_bits,), dataset)
