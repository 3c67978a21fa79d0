"""``hashret eval``: measure a model, or anybody's codes, on a split: codes beside float vectors and chance."""

from __future__ import annotations

import argparse
import json
import shlex
import sys
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from hashret.cli._subject import Subject
    from hashret.evaluation.measured import Measured
    from hashret.evaluation.once import TestOnce
    from hashret.evaluation.published import AsPublished
    from hashret.evaluation.sections import Table
    from hashret.training.reranking import Reranking

SUMMARY = "Measure retrieval on a split: codes at each length, the float vectors, and chance; ties by expectation."
EXAMPLES = (
    "hashret eval model/ --data captions.jsonl --split test",
    "hashret eval model/ --data captions.jsonl --split val --bits 64,256 --json",
    "hashret eval model/ --data captions.jsonl --split val --html report.html",
    "hashret eval model/ --data captions.jsonl --split val --bits 256 --rerank 20",
    "hashret eval model/ --data tagged.jsonl --split test --database train --as dchmt --cut 50",
    "hashret eval --codes images.npy texts.npy --owner owner.npy --labels labels.npy --bits 64",
)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments."""
    from hashret.cli._common import add_data_arguments

    parser.add_argument("model", nargs="?", help="the directory of a model")
    add_data_arguments(parser, split="test", required=False)
    parser.add_argument("--bits", type=_lengths, help="code lengths, such as 64,256 (every one that there is)")
    parser.add_argument(
        "--rerank", type=int, metavar="K",
        help="put the nearest K items of each query, by the longest of --bits, into the order of the model's re-ranker",
    )  # fmt: skip
    parser.add_argument("--again", action="store_true", help="read the test split of a run once more, on the record")
    parser.add_argument("--json", action="store_true", help="print every figure as JSON")
    parser.add_argument("--out", type=Path, help="write the figures to this JSON file as well")
    parser.add_argument("--html", type=Path, help="write a report with curves and sample hits to this file")
    parser.add_argument("--cache", type=Path, help="where computed features are kept (~/.cache/hashret)")
    parser.add_argument("--device", default="auto")
    labels = parser.add_argument_group("data with labels: items are relevant that share one")
    labels.add_argument(
        "--measures", default="AP@all", metavar="NAMES", help='such as "AP@all,NDCG@100,P@H<=2" (AP@all)'
    )
    labels.add_argument("--database", metavar="SPLIT", help="search this split instead of that of the queries")
    labels.add_argument(
        "--protocol", type=Path, metavar="FILE", help="ask and search what this protocol names, in the place of splits"
    )
    labels.add_argument(
        "--as",
        dest="convention",
        metavar="NAME",
        help="beside it, the mAP that another code base would print: deephash, dchmt, ucch, trec",
    )
    labels.add_argument("--cut", type=int, help="top-k of --as (the whole ranking)")
    parser.add_argument(
        "--ties",
        default="expected",
        help="order of items at one distance: expected (over all orders), optimistic, pessimistic, stable (by row)",
    )
    foreign = parser.add_argument_group(
        "codes from elsewhere, in the place of a model: .npy files, packed or one number a bit"
    )
    foreign.add_argument("--codes", nargs=2, metavar=("IMAGES", "TEXTS"), type=Path)
    foreign.add_argument("--owner", type=Path, help="row of each caption's picture (from --data, or caption n has n)")
    foreign.add_argument("--labels", type=Path, help="of the pictures: a class each, or a matrix of zeros and ones")
    foreign.add_argument("--database-codes", nargs=2, metavar=("IMAGES", "TEXTS"), type=Path, help="search these")
    foreign.add_argument("--database-owner", type=Path)
    foreign.add_argument("--database-labels", type=Path)


def run(args: argparse.Namespace) -> None:
    """Measure and print."""
    from hashret._files import write_whole
    from hashret.cli._common import print_json, split_of
    from hashret.cli._subject import check, of_arrays, of_model
    from hashret.errors import InputError
    from hashret.evaluation.category import difference
    from hashret.evaluation.figures import plain
    from hashret.evaluation.instance import check_ties
    from hashret.evaluation.measured import measure_coded
    from hashret.evaluation.measures import parse
    from hashret.evaluation.published import as_published

    check(args)  # whatever is wrong is refused before minutes of work
    args.split = split_of(args)
    check_ties(args.ties)
    measures = [parse(name) for name in _names(args.measures)]
    if not measures:
        raise InputError("--measures names none; leave it out for AP@all")
    if args.convention:
        difference(args.convention)
    guard = _guard(args)
    if guard is not None and not args.again:
        guard.check()
    subject = of_arrays(args) if args.codes else of_model(args)
    coded, database, lengths, dataset, model, protocol = subject
    if args.convention or database is not None or args.measures != "AP@all":
        _ = coded.known_labels  # say so where there are none
    measured = measure_coded(coded, code_lengths=lengths, measures=measures, ties=args.ties, database=database)
    published = (
        as_published(coded, args.convention, cut=args.cut, code_lengths=lengths, database=database)
        if args.convention
        else None
    )
    if guard is not None and dataset is not None:  # before anybody looks
        guard.claim(checksum=protocol.checksum if protocol else dataset.fingerprint, again=args.again)
    reranked = None
    if args.rerank is not None and model is not None and dataset is not None:
        from hashret.training.reranking import measure_reranked

        reranked = measure_reranked(model, dataset, n_bits=max(lengths), k=args.rerank, cache_dir=args.cache)
    command = shlex.join(["hashret", *sys.argv[1:]])
    source = {"files": [str(path) for path in args.codes]} if args.codes else {"model": str(args.model)}
    content = {
        **source, "data": None if args.data is None else str(args.data),
        **({"protocol": protocol.checksum} if protocol else {"split": args.split} if args.data is not None else {}),
        "ties": args.ties,
        **measured.to_dict(), **({"as": published.to_dict()} if published else {}),
        **({"rerank": reranked.to_dict()} if reranked else {}), "command": command,
    }  # fmt: skip
    if args.json:
        print_json(plain(content))
    else:
        tables = [table(measured), *([_rerank_lines(reranked)] if reranked else [])]
        print("\n".join(tables) + (_as_table(published) if published else ""), flush=True)
    if args.out:
        write_whole(args.out, json.dumps(plain(content), ensure_ascii=False, indent=2))
    if args.html:
        _report(args, subject, measured, published, reranked, command)


def table(measured: Measured) -> str:
    """The figures as lines of text."""
    head = (
        f"{'':<22}{'bytes':>6}  {'i2t R@1':>7} {'R@5':>5} {'R@10':>5}  "
        f"{'t2i R@1':>7} {'R@5':>5} {'R@10':>5}  {'rSum':>6}"
    )
    lines = [f"{measured.n_images:,} pictures, {measured.n_captions:,} captions", head]
    lines += [
        _line(row.name, f"{row.bytes_an_item:,}" if row.bytes_an_item else "", row.i2t, row.t2i, row.r_sum)
        for row in measured.rows()
    ]
    if measured.by_label:
        names = list(measured.by_label[0].values)
        widths = [max(len(name), 6) + 2 for name in names]
        lines += ["", f"{'shared labels':<22}" + "".join(f"{name:>{width}}" for name, width in zip(names, widths))]
        for line in measured.by_label:
            cells = (f"{line.values[name]:.4f}" if name in line.values else "–" for name in names)
            lines.append(f"{line.name:<22}" + "".join(f"{cell:>{width}}" for cell, width in zip(cells, widths)))
        lines += [
            f"{count:,} {way} queries share a label with nothing that is searched; they {measured.lone_queries}"
            for way, count in measured.n_without.items()
            if count and measured.lone_queries
        ]
    return "\n".join(lines)


def _line(name: str, stored: str, i2t: Sequence[float], t2i: Sequence[float], r_sum: float) -> str:
    return (
        f"{name:<22}{stored:>6}  {i2t[0]:>7.1f} {i2t[1]:>5.1f} {i2t[2]:>5.1f}  "
        f"{t2i[0]:>7.1f} {t2i[1]:>5.1f} {t2i[2]:>5.1f}  {r_sum:>6.1f}"
    )


def _rerank_lines(found: Reranking) -> str:
    """Lines under those of ``table``."""
    lines = ["", f"{_candidates(found)}, in the order of"]
    lines += [_line(f"  {name}", "", i2t, t2i, r_sum) for name, i2t, t2i, r_sum in _rerank_rows(found)]
    return "\n".join(lines)


def _rerank_section(found: Reranking) -> Table:
    from hashret.evaluation.sections import Table

    return Table(
        "Retrieval after re-ranking",
        ("", *(f"{way} R@{k}, %" for way in ("i2t", "t2i") for k in (1, 5, 10)), "rSum, of 600"),
        tuple((name, *i2t, *t2i, r_sum) for name, i2t, t2i, r_sum in _rerank_rows(found)),
        note=f"Figures of {_candidates(found)}, in the order of codes, of float vectors and of the re-ranker.",
    )


def _candidates(found: Reranking) -> str:
    return f"the nearest {found.k} by {found.n_bits} bits, items at one distance by row"


def _rerank_rows(found: Reranking) -> Iterator[tuple[str, Sequence[float], Sequence[float], float]]:
    """Whose order it is, R@1, R@5 and R@10 both ways, and their sum."""
    for name, result in (("codes", found.before), ("float vectors", found.floats), ("the re-ranker", found.after)):
        i2t, t2i = ((way.r1, way.r5, way.r10) for way in (result.i2t, result.t2i))
        yield name, i2t, t2i, result.r_sum


def _as_table(published: AsPublished) -> str:
    head = f"{'':<22}  {published.theirs} ({published.name})  {published.ours} (standard, tie-aware)"
    left, right = (len(part) + len(name) + 5 for part, name in
                   ((published.theirs, published.name), (published.ours, "standard, tie-aware")))  # fmt: skip
    lines = [
        f"{f'{way}, {n_bits} bits':<22}{theirs:>{left}.4f}{ours:>{right}.4f}"
        for way, n_bits, theirs, ours in published.numbers
    ]
    return "\n".join(["\n", head, *lines, published.difference])


def _guard(args: argparse.Namespace) -> TestOnce | None:
    """The guard of the run that the model is of, where its test split is to be read."""
    from hashret.evaluation.once import TestOnce

    reads_test = args.protocol is not None or not args.split or "test" in (args.split, args.database)
    if args.codes or not reads_test:
        return None
    run_dir = Path(args.model).resolve().parent
    return TestOnce(run_dir) if (run_dir / "checkpoints").is_dir() else None


def _report(
    args: argparse.Namespace,
    subject: Subject,
    measured: Measured,
    published: AsPublished | None,
    reranked: Reranking | None,
    command: str,
) -> None:
    from hashret.evaluation.eval_report import evaluation_report
    from hashret.evaluation.report import write_report

    codes = " and ".join(map(str, args.codes)) if args.codes else ""
    data = args.data if args.data is not None else "pairs of codes"
    facts = [
        ("codes", codes) if args.codes else ("model", str(args.model)),
        ("data", str(data)),
        ("labels", str(args.labels or "none"))
        if args.data is None
        else ("protocol", f"{subject.protocol.name}, {subject.protocol.checksum[:12]}")
        if subject.protocol
        else ("split", str(args.split)),
        ("code lengths", ", ".join(map(str, subject.lengths)) + " bits"),
        ("items at one distance", args.ties),
    ]
    name = subject.dataset.name if subject.dataset is not None else "codes from elsewhere"
    report = evaluation_report(
        measured,
        subject.coded,
        title=f"Retrieval on {name}" if subject.dataset is not None else "Retrieval with codes from elsewhere",
        subtitle=f"{measured.n_images:,} pictures and {measured.n_captions:,} captions"
        + (
            f" of the split {args.split}."
            if subject.dataset is not None and args.split and not subject.protocol
            else "."
        ),
        dataset=subject.dataset,
        database=subject.database,
        published=published,
        reranked=_rerank_section(reranked) if reranked else None,
        facts=facts,
        command=command,
    )
    write_report(args.html, report)


def _names(text: str) -> tuple[str, ...]:
    """Names of measures; a comma within brackets belongs to a name."""
    names, depth = [""], 0
    for letter in text:
        depth += (letter == "(") - (letter == ")")
        if letter == "," and not depth:
            names.append("")
        else:
            names[-1] += letter
    return tuple(name.strip() for name in names if name.strip())


def _lengths(text: str) -> tuple[int, ...]:
    try:
        return tuple(int(part) for part in text.split(","))
    except ValueError:
        raise argparse.ArgumentTypeError(f"code lengths read 64,256 and not {text!r}") from None
