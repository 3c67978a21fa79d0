"""The report of the search benchmark: tables in Markdown and a plot, made from its JSON. Must not time anything."""

from __future__ import annotations

from pathlib import Path
from typing import Any, NamedTuple

from hashret._lazy import available

READING = "reading the codes"
FAISS = ("faiss flat (heap)", "faiss flat (counting)")

MIH_BYTES = 25  # a code at most, at 10^7 codes of 64 bits
LARGE, SMALL = (10**6, 10**7), (10**6,)


class Bar(NamedTuple):
    """What a cell has to reach.

    Attributes:
        what: in words.
        name: the contestant.
        against: what its time is compared with, in the same cell: the best of these.
        when: conditions on the cell.
        bars: at 64, 128, 256 bits: the least ratio (time of the others over its own), or the largest time over theirs;
            0 where there is none, and the figure only says what the machine can do.
        most: whether ``bars`` are the largest times.
    """

    what: str
    name: str
    against: tuple[str, ...]
    when: dict[str, tuple[Any, ...]]
    bars: tuple[float, float, float]
    most: bool = False


ONE, TWO = {"batch": (1,), "threads": (1,)}, {"batch": (1,), "threads": (2,)}
ALONE = ", 1 thread"
"""Names a contestant that keeps to one thread in a cell of several."""
BARS = (
    Bar("batch of 1,000, 1 thread", "native", FAISS, {"batch": (1000,), "threads": (1,), "n": LARGE}, (25, 14, 11)),
    Bar("the same, AVX2", "native avx2", FAISS, {"batch": (1000,), "threads": (1,), "n": LARGE}, (10, 5, 4.5)),
    Bar("batch of 16, 1 thread", "native", FAISS, {"batch": (16,), "threads": (1,), "n": LARGE}, (10, 6, 5)),
    Bar("one query, 1 thread", "native", FAISS, {**ONE, "n": SMALL}, (3.2, 1.5, 1.3)),
    Bar("one query, 2 threads", "native", FAISS, {**TWO, "n": SMALL}, (6, 2.8, 2.2)),
    Bar("one query, MIH", "mih", FAISS, {**ONE, "n": (10**7,), "data": ("clustered",)}, (100, 60, 40)),
    Bar("one query, 2 threads over 1", "native", ("native" + ALONE,), {**TWO, "n": LARGE}, (1.8, 1.8, 1.8)),
    Bar("reading (numpy), 2 threads over 1", READING, (READING + ALONE,), {**TWO, "n": LARGE}, (0, 0, 0)),
    Bar("one query: time over reading", "native", (READING,), {**ONE, "n": LARGE}, (1.2, 1.2, 1.2), True),
    Bar("mask of 1 %: time over none", "native, masked", ("native",), {**ONE, "n": SMALL}, (1, 1, 1), True),
)
WORST = (  # what holds in every cell, whatever its data, N, k, batch and threads
    Bar("auto over better of flat and MIH", "auto", ("native", "mih"), {}, (1.15,) * 3, True),
    Bar("numpy over FAISS flat", "numpy", FAISS, {}, (5,) * 3, True),
)


def faiss_ms(cell: dict[str, Any], which: str = "median_ms") -> float | None:
    """The better setting of FAISS flat in a cell."""
    times = [cell["peers"][name][which] for name in FAISS if name in cell["peers"]]
    return min(times) if times else None


def ratio(cell: dict[str, Any], name: str, which: str = "median_ms") -> float | None:
    """How many times faster than FAISS flat a contestant is in a cell."""
    base = faiss_ms(cell, which)
    return base / cell["peers"][name][which] if base and name in cell["peers"] else None


def write_report(state: dict[str, Any], out: Path, *, there: int, wanted: int) -> None:
    """search.md; ``there`` of the ``wanted`` cells of the whole benchmark are timed."""
    cells = sorted(
        state["cells"].values(), key=lambda c: (c["data"], c["n"], c["bits"], c["k"], c["batch"], c["threads"])
    )
    machine = state["key"]["machine"]
    lines = [
        "# Exact Hamming search against its peers",
        "",
        "Written by `python benchmarks/search.py`. All contestants of a row took turns, in each an untimed run before",
        "the timed ones; times are medians in ms a query. A ratio is the time of the better setting of FAISS",
        "IndexBinaryFlat over that of the contestant; in brackets the ratio of the best runs, which a busy machine",
        "disturbs less (a fast contestant has more runs to be lucky in). `load` is the machine's load when a row",
        "began. Bars that are upper limits give the contestant's time over that of what it is compared with.",
        "",
        "Uniform codes are random; clustered ones are one of 10,000 centres, each bit flipped with probability 0.1.",
        "Another name is that of a file of codes: trained is made by `benchmarks/trained_codes.py`, pictures (and",
        "mixtures of two) searched by captions.",
        "",
        *(f"* {key}: {value}" for key, value in machine.items()),
        f"* complete: {'yes' if there == wanted else f'no, {there} of {wanted} cells are there'}",
        "",
        "## Bars, k = 10",
        "",
        "| what | N | data | 64 bits | 128 bits | 256 bits |",
        "|---|---|---|---|---|---|",
        *bar_rows(cells),
        "",
        "## Bars of every row: the furthest from it",
        "",
        "| what | 64 bits | 128 bits | 256 bits |",
        "|---|---|---|---|",
        *worst_rows(cells),
        "",
        "## More hits: time at k over time at k = 10, where it grows most",
        "",
        "| what | k | 64 bits | 128 bits | 256 bits |",
        "|---|---|---|---|---|",
        *growth_rows(cells),
        "",
        "## All rows",
        "",
    ]
    names = list(dict.fromkeys(name for cell in cells for name in cell["peers"]))
    lines += [
        "| data | N | bits | k | batch | threads | load | " + " | ".join(names) + " |",
        "|---" * (7 + len(names)) + "|",
        *(row(cell, names) for cell in cells),
    ]
    notes = {
        f"{cell['data']}, {cell['n']:,} x {cell['bits']}: {name}: {timed['note']}"
        + (f", recall {timed['recall']:.3f} at k = 10" if "recall" in timed else "")
        for cell in cells
        for name, timed in cell["peers"].items()
        if "note" in timed
    }
    lines += ["", "## Parameters", "", *(f"* {note}" for note in sorted(notes)), ""]
    (out / "search.md").write_text("\n".join(lines))


def bar_rows(cells: list[dict[str, Any]]) -> list[str]:
    """A line for each bar, data and N that were timed."""
    rows = []
    for bar in BARS:
        fitting = [
            cell
            for cell in cells
            if cell["k"] == 10 and bar.name in cell["peers"] and all(cell[key] in c for key, c in bar.when.items())
        ]
        for data, count in dict.fromkeys((cell["data"], cell["n"]) for cell in fitting):
            shown = []
            for n_bits, least in zip((64, 128, 256), bar.bars):
                cell = next((c for c in fitting if (c["data"], c["n"], c["bits"]) == (data, count, n_bits)), None)
                shown.append(verdict(bar, cell, least) if cell else "-")
            rows.append(f"| {bar.what} | {count:,} | {data} | " + " | ".join(shown) + " |")
    return rows + mih_rows(cells)


def worst_rows(cells: list[dict[str, Any]]) -> list[str]:
    """A line for each bar that holds everywhere: the cell that is furthest from it, at each length."""
    rows = []
    for bar in WORST:
        shown = []
        for n_bits, most in zip((64, 128, 256), bar.bars):
            timed = [
                (measured(bar, c, "median_ms"), c) for c in cells if c["bits"] == n_bits and bar.name in c["peers"]
            ]
            known = [(value, cell) for value, cell in timed if value is not None]
            if not known:
                shown.append("-")
                continue
            _, cell = max(known, key=lambda each: each[0])
            over = sum(value > most for value, _ in known)
            where = f"{where_of(cell)}, k {cell['k']:,}"
            shown.append(f"{verdict(bar, cell, most)} ({where}; {over} of {len(known)} rows are over)")
        if set(shown) != {"-"}:
            rows.append(f"| {bar.what} | " + " | ".join(shown) + " |")
    return rows


def growth_rows(cells: list[dict[str, Any]]) -> list[str]:
    """A line for each k beyond 10: the cell whose time grew most over its neighbour's with k = 10, at each length."""

    def place(cell: dict[str, Any]) -> tuple[Any, ...]:
        return tuple(cell[key] for key in ("data", "n", "bits", "batch", "threads"))

    few = {place(cell): cell for cell in cells if cell["k"] == 10}
    rows = []
    for k in sorted({cell["k"] for cell in cells} - {10}):
        shown = []
        for n_bits in (64, 128, 256):
            grown = [
                (cell["peers"]["native"]["median_ms"] / before["peers"]["native"]["median_ms"], cell, before)
                for cell in cells
                if (cell["k"], cell["bits"]) == (k, n_bits)
                and (before := few.get(place(cell)))
                and "native" in cell["peers"]
                and "native" in before["peers"]
            ]
            if not grown:
                shown.append("-")
                continue
            most, cell, before = max(grown, key=lambda each: each[0])
            ours, theirs = faiss_ms(cell), faiss_ms(before)
            beside = f"; FAISS flat's {ours / theirs:.1f}x" if ours and theirs else ""
            shown.append(f"{most:.1f}x ({where_of(cell)}{beside})")
        rows.append(f"| native | {k:,} | " + " | ".join(shown) + " |")
    return rows


def where_of(cell: dict[str, Any]) -> str:
    """A cell in words, but for its width and k."""
    return f"{cell['data']} {cell['n']:,}, batch {cell['batch']:,}, threads {cell['threads']}"


def verdict(bar: Bar, cell: dict[str, Any], least: float) -> str:
    """Measured by medians (by best runs), the bar, and whether it is met."""
    got, best = (measured(bar, cell, which) for which in ("median_ms", "best_ms"))
    if got is None or best is None:
        return "-"
    digits = 2 if least < 2 else 1
    shown = f"{got:.{digits}f}x ({best:.{digits}f}x)"
    if not least:
        return shown
    met = got <= least if bar.most else got >= least
    return f"{shown} {'<=' if bar.most else '>='} {least}x: {'met' if met else '**missed**'}"


def measured(bar: Bar, cell: dict[str, Any], which: str) -> float | None:
    """What a bar speaks of, in one cell."""
    times = [cell["peers"][name][which] for name in bar.against if name in cell["peers"]]
    if not times:
        return None
    ratio_ = min(times) / cell["peers"][bar.name][which]
    return 1 / ratio_ if bar.most else ratio_


def mih_rows(cells: list[dict[str, Any]]) -> list[str]:
    """The line for the memory of multi-index hashing."""
    for cell in cells:
        note = cell["peers"].get("mih", {}).get("note", "")
        if (cell["n"], cell["bits"]) == (10**7, 64) and " B/code" in note:
            size = float(note.split(" B/code")[0])
            met = "met" if size <= MIH_BYTES else "**missed**"
            return [f"| MIH, bytes a code | {cell['n']:,} | {cell['data']} | {size} <= {MIH_BYTES}: {met} | - | - |"]
    return []


def row(cell: dict[str, Any], names: list[str]) -> str:
    """One line of the large table."""
    shown = [cell["data"], f"{cell['n']:,}", *(str(cell[key]) for key in ("bits", "k", "batch", "threads"))]
    shown.append(f"{cell['load']:.1f}")
    for name in names:
        timed = cell["peers"].get(name)
        text = "" if timed is None else f"{timed['median_ms']:.3g}"
        times = ratio(cell, name) if timed else None
        if times and not name.startswith("faiss flat"):
            text += f" ({times:.1f}x)"
        shown.append(text)
    return "| " + " | ".join(shown) + " |"


def write_plot(state: dict[str, Any], out: Path) -> None:
    """search.png, where matplotlib is installed: queries a second over bits, a panel a batch, at the largest N."""
    cells = list(state["cells"].values())
    if not cells or not available("matplotlib"):
        return
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    count = max(cell["n"] for cell in cells)
    data = next(cell["data"] for cell in cells if cell["n"] == count)
    fitting = [c for c in cells if (c["n"], c["data"], c["threads"]) == (count, data, min(x["threads"] for x in cells))]
    fitting = [cell for cell in fitting if cell["k"] == min(c["k"] for c in fitting)]
    batches = sorted({cell["batch"] for cell in fitting})
    # a contestant keeps its colour in every panel, also where another one is missing
    names = list(dict.fromkeys(name for cell in fitting for name in cell["peers"]))
    colours = {name: f"C{order}" for order, name in enumerate(names)}
    figure, axes = pyplot.subplots(
        1, len(batches), figsize=(4 * len(batches), 4.2), squeeze=False, layout="constrained"
    )
    for axis, batch in zip(axes[0], batches):
        panel = sorted((c for c in fitting if c["batch"] == batch), key=lambda c: c["bits"])
        for name in names:
            points = [(c["bits"], 1000 / c["peers"][name]["median_ms"]) for c in panel if name in c["peers"]]
            if points:
                axis.plot(*zip(*points), marker="o", color=colours[name])
        axis.set(xscale="log", yscale="log", xlabel="bits", title=f"batch of {batch:,}")
        axis.set_xticks([c["bits"] for c in panel], [str(c["bits"]) for c in panel])
        axis.minorticks_off()
    axes[0][0].set_ylabel("queries a second")
    lines = [pyplot.Line2D([], [], marker="o", color=colours[name], label=name) for name in names]
    figure.legend(handles=lines, loc="outside lower center", ncols=5, fontsize=8)
    figure.suptitle(f"{count:,} {data} codes, 1 thread, k = {fitting[0]['k']}")
    figure.savefig(out / "search.png", dpi=80)
    pyplot.close(figure)
