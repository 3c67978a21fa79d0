"""The report of an evaluation: facts, tables, curves, and sample hits of codes in both directions.

    Coded + Measured (+ AsPublished, records) ─► evaluation_report ─► Report ─► write_report

Orders sections that other modules make; computes nothing itself.
"""

from __future__ import annotations

from collections.abc import Sequence

from hashret.data import Dataset
from hashret.evaluation.coded import Coded
from hashret.evaluation.examples import galleries
from hashret.evaluation.measured import Measured
from hashret.evaluation.published import AsPublished
from hashret.evaluation.sections import Commands, Credits, Report, Section, Table
from hashret.evaluation.summary import (
    bytes_plots,
    curve_plots,
    first_facts,
    interval_table,
    label_table,
    quantile_plots,
    rank_plots,
    retrieval_table,
)


def evaluation_report(
    measured: Measured,
    coded: Coded,
    *,
    title: str,
    subtitle: str = "",
    dataset: Dataset | None = None,
    database: Coded | None = None,
    published: AsPublished | None = None,
    reranked: Table | None = None,
    facts: Sequence[tuple[str, str]] = (),
    command: str = "",
    seed: int = 0,
) -> Report:
    """Everything that was measured, on one page.

    Args:
        measured: the figures.
        coded: the codes behind them.
        title: heading.
        subtitle: the line below.
        dataset: the records behind the codes, in their order, for sample hits; without it there are none.
        database: what the measures over labels searched, where it is apart from the queries.
        published: a number in another code base's convention, to be shown beside the standard one.
        reranked: the figures of a re-ranker's order, to be shown below those of the codes.
        facts: name and value of what was measured: the model, the data, the split.
        command: that gives the same figures.
        seed: of the draw of sample hits.
    """
    longest = max(measured.codes)
    sections: list[Section] = [
        first_facts(measured, n_bits=longest),
        retrieval_table(measured, title="Retrieval of the own pair"),
        *((reranked,) if reranked is not None else ()),
        bytes_plots(measured),
        rank_plots(measured, coded),
    ]
    if measured.by_label:
        sections += [
            label_table(measured, title="Retrieval by shared labels"),
            quantile_plots(measured),
            curve_plots(measured, coded, database=database),
        ]
    if published is not None:
        sections.append(published_table(published))
    sections.append(interval_table(measured, coded, n_bits=longest))
    if dataset is not None:
        sections += galleries(coded, measured.codes[longest], dataset, n_bits=longest, seed=seed)
    if facts:
        sections.append(Table("What was measured", ("", ""), tuple(facts)))
    if command:
        sections.append(Commands("Do it again", (command,)))
    if dataset is not None and dataset.credits:
        sections.append(Credits((dataset.credits,)))
    return Report(title, tuple(sections), subtitle)


def published_table(published: AsPublished) -> Table:
    """The number of another code base beside the standard one."""
    return Table(
        f"As {published.name} would print it",
        (
            "",
            f"{published.theirs}, one order of ties ({published.name})",
            f"{published.ours}, expected over ties (standard)",
        ),
        tuple((f"{way}, {n_bits} bits", theirs, ours) for way, n_bits, theirs, ours in published.numbers),
        note=published.difference,
        digits=4,
    )
