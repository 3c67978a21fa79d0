"""The same run again and again: over seeds, code lengths, or any other setting, one after the other.

OUT/seed=0,n_bits=64/     a run directory each
OUT/sweep.json, sweep.md  what came out, mean and spread over seeds
"""

from __future__ import annotations

import itertools
import json
import statistics
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from hashlib import sha256
from pathlib import Path
from typing import Any

from hashret._files import write_whole
from hashret.config import build, override, plain
from hashret.data import Dataset
from hashret.errors import ConfigError
from hashret.training.checks import check_losses
from hashret.training.config import RunConfig
from hashret.training.run import TrainResult, train

Point = tuple[tuple[str, str], ...]
LENGTH = "n_bits"
_LONGEST = 200  # bytes of a directory's name


def points_of(axes: Sequence[str]) -> list[Point]:
    """Every combination of axes such as ``"seed=0,1,2"`` and ``"n_bits=64,256"``; lists keep their brackets.

    Raises:
        ConfigError: an axis without values, or named twice.
    """
    parsed: dict[str, list[str]] = {}
    for axis in axes:
        key, _, values = axis.partition("=")
        listed = [value.strip() for value in _apart(values) if value.strip()]
        if not key or not listed or key in parsed:
            raise ConfigError(f"a sweep reads KEY=VALUE,VALUE, each key once, such as seed=0,1,2, and not {axis!r}")
        parsed[key] = listed
    if not parsed:
        raise ConfigError("a sweep needs at least one axis, such as seed=0,1,2")
    return [tuple(zip(parsed, values)) for values in itertools.product(*parsed.values())]


def _apart(values: str) -> list[str]:
    """What stands between the commas that are in no brackets."""
    parts, depth = [""], 0
    for letter in values:
        depth += (letter in "[{") - (letter in "]}")
        if letter == "," and not depth:
            parts.append("")
        else:
            parts[-1] += letter
    return parts


def at(config: RunConfig, point: Point) -> RunConfig:
    """The configuration at one point; ``n_bits`` shortens the code, nested lengths and selection with it."""
    for key, value in point:
        if key == LENGTH:
            config = with_length(config, _whole(value))
        else:
            config = build(RunConfig, override(plain(config), [f"{key}={value}"]))
    return config


def with_length(config: RunConfig, n_bits: int) -> RunConfig:
    """The same run for codes of ``n_bits``: nested lengths above it, choices at them, and their weights fall away."""
    model = config.model
    if n_bits == model.n_bits:
        return config
    lengths = tuple(length for length in model.code_lengths if length < n_bits)
    chosen = config.selection.lengths
    if any(length > n_bits for length in chosen):
        chosen = (*(length for length in chosen if length < n_bits), n_bits)
    shorter = replace(model, n_bits=n_bits, code_lengths=(*lengths, n_bits) if lengths else ())
    before, after = (one.code_lengths or (one.n_bits,) for one in (model, shorter))  # as a loss's weights are written
    stages = tuple(
        replace(stage, losses={label: _at_lengths(loss, before, after) for label, loss in stage.losses.items()})
        for stage in config.stages
    )
    return replace(
        config,
        model=shorter,
        stages=stages,
        selection=replace(config.selection, n_bits=chosen),
    )


def _at_lengths(loss: dict[str, Any], before: tuple[int, ...], after: tuple[int, ...]) -> dict[str, Any]:
    """A loss's configuration, once for the code lengths ``before``, for those ``after``.

    A length keeps its weight; a new one has that of the next longer one.
    """
    if not {"lengths", "length_weights"} & set(loss):
        return loss
    given = tuple(loss.get("lengths") or ())
    if given:
        before, after = given, tuple(length for length in given if length <= after[-1]) or after[-1:]
    weights = dict(zip(before, loss.get("length_weights") or ()))
    changes: dict[str, Any] = {"lengths": list(after)} if given else {}
    if len(weights) == len(before):  # else it is wrong, and said where the loss is built
        nearest = [min((old for old in weights if old >= length), default=max(weights)) for length in after]
        changes["length_weights"] = [weights[old] for old in nearest]
    return {**loss, **changes}


def sweep(
    config: RunConfig, axes: Sequence[str], dataset: Dataset, *, out: str | Path, **options: Any
) -> Iterator[tuple[Point, TrainResult]]:
    """Train at every point, each in a directory of its own below ``out``; finished runs are not trained again.

    Args:
        config: the run that is varied.
        axes: see ``points_of``.
        dataset: see ``train``.
        out: a directory for the runs.
        options: of ``train``.

    Raises:
        ConfigError: an axis that cannot be read, or a point whose settings or losses are wrong, before anything is
            trained; one that does not fit its model, when it is its turn.
        TrainingError: as ``train``.
    """
    configs = {point: at(config, point) for point in points_of(axes)}
    for varied in configs.values():
        check_losses(varied)
    rows = []
    for point, varied in configs.items():
        result = train(varied, dataset, out=Path(out) / folder_of(point), **{**options, "resume": True})
        rows.append({**dict(point), **_figures(result)})
        write_whole(Path(out) / "sweep.json", json.dumps(rows, indent=1) + "\n")
        write_whole(Path(out) / "sweep.md", "\n".join(table(rows)) + "\n")
        yield point, result


def folder_of(point: Point) -> str:
    """The name of a point's directory; a long one ends in a checksum, as file systems take 255 bytes."""
    name = ",".join(f"{key}={value}" for key, value in point).replace("/", "-")
    if len(name.encode()) <= _LONGEST:
        return name
    return f"{name.encode()[:_LONGEST].decode(errors='ignore')}…{sha256(name.encode()).hexdigest()[:8]}"


def table(rows: Sequence[Mapping[str, Any]]) -> Iterator[str]:
    """Markdown: validation rSum by setting, mean and standard deviation over seeds."""
    keys = [key for key in rows[0] if key not in ("seed", "rSum")]
    groups: dict[tuple[Any, ...], list[Mapping[str, Any]]] = {}
    for row in rows:
        groups.setdefault(tuple(row[key] for key in keys), []).append(row)
    lengths = sorted({length for row in rows for length in row["rSum"]}, key=int)
    yield "| " + " | ".join([*keys, *(f"validation rSum, {length} bits" for length in lengths), "runs"]) + " |"
    yield "|" + "---|" * (len(keys) + len(lengths) + 1)
    for values, members in groups.items():
        cells = [_spread([m["rSum"][length] for m in members if length in m["rSum"]]) for length in lengths]
        yield "| " + " | ".join([*map(str, values), *cells, str(len(members))]) + " |"


def _figures(result: TrainResult) -> dict[str, Any]:
    codes = result.figures["validation"]["codes"]
    return {"rSum": {length: found["rSum"] for length, found in codes.items()}}


def _spread(values: Sequence[float]) -> str:
    if not values:
        return ""
    return f"{statistics.mean(values):.1f}" + (f" ± {statistics.stdev(values):.1f}" if len(values) > 1 else "")


def _whole(value: str) -> int:
    try:
        return int(value)
    except ValueError:
        raise ConfigError(f"a code length is a whole number of bits, and not {value!r}") from None
