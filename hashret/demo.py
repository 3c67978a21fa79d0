"""The main job on built-in data, end to end: learn, measure, index, search both ways, and show it.

OUT/run/                training run; run/model is the model
OUT/emoji.hashret       collection of the held-out pictures       OUT/names.hashret  of their names
OUT/report.html         what was learned and how good it is       OUT/contact-sheet.png, OUT/figures.json
"""

from __future__ import annotations

import shutil
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from hashret.data import Dataset, Record, open_dataset, readable_images
from hashret.engine import Engine
from hashret.errors import InputError
from hashret.evaluation.contact_sheet import contact_sheet
from hashret.evaluation.figures import write_figures
from hashret.evaluation.measured import Measured
from hashret.evaluation.plots import curves
from hashret.evaluation.report import (
    Commands,
    Credits,
    Gallery,
    Hit,
    Query,
    Report,
    Section,
    Table,
    write_report,
)
from hashret.evaluation.summary import NOTE, bytes_plots, first_facts, label_table, retrieval_table
from hashret.indexing import index_dataset
from hashret.model import CrossModalHasher
from hashret.training import TrainResult, read_config, train
from hashret.training.measure import measure

N_BITS = 128  # of the collections, and of the galleries
N_QUERIES, N_HITS = 10, 6
MARK = ".hashret-demo"  # says that a directory may be replaced


@dataclass(frozen=True)
class DemoResult:
    """What the demo made.

    Attributes:
        out: its directory.
        measured: figures on the held-out emoji.
        seconds: time by step.
    """

    out: Path
    measured: Measured
    seconds: dict[str, float]


def run_demo(
    out: str | Path,
    *,
    config: str | Path,
    seed: int = 0,
    cache_dir: str | Path | None = None,
    settings: Sequence[str] = (),
) -> DemoResult:
    """Run the main job on the emoji.

    Args:
        out: directory for what it makes; an earlier demo there is replaced.
        config: the training configuration.
        seed: of the training and of the queries shown.
        cache_dir: where features are kept.
        settings: overrides of the configuration.

    Raises:
        InputError: ``out`` holds something else than an earlier demo.
        MissingExtraError: the packages of the extra ``demo`` are missing.
    """
    run = read_config(config, [*settings, f"seed={seed}"])
    if run.model.n_bits < N_BITS:
        raise InputError(f"the demo shows codes of {N_BITS} bits, and the model has {run.model.n_bits}")
    clock = _Clock()
    with clock.step("data"):
        dataset, _ = readable_images(open_dataset("emoji"))
        held_out = dataset.split("test")
    out = _fresh(Path(out))  # an earlier demo is kept until this one can begin
    with clock.step("training"):
        result = train(run, dataset, out=out / "run", cache_dir=cache_dir)
    model = result.model
    with clock.step("evaluation"):
        measured = measure(model, held_out, code_lengths={*model.code_lengths, N_BITS}, cache_dir=cache_dir)
    with clock.step("index"):
        for name, modality in (("emoji", "image"), ("names", "text")):
            collection = out / f"{name}.hashret"
            index_dataset(
                model, held_out, collection, model_path=out / "run" / "model", modality=modality, n_bits=N_BITS
            ).close()
    with clock.step("search"):
        words, pictures = _galleries(model, held_out, out, seed=seed)
    with clock.step("report"):
        rows = [*words.rows, *pictures.rows]
        contact_sheet(
            out / "contact-sheet.png",
            [q for q, _ in rows],
            [hits for _, hits in rows],
            title="Held-out emoji, 128 bits",
        )
        sections = _sections(dataset, result, measured, words, pictures, clock.seconds)
        write_report(out / "report.html", Report("Emoji by words, words by emoji", sections, _subtitle(dataset)))
    figures = {**measured.to_dict(), "seconds": clock.seconds, "splits": dataset.splits, "training": result.figures}
    write_figures(out / "figures.json", figures)
    return DemoResult(out, measured, clock.seconds)


def _fresh(out: Path) -> Path:
    """An empty directory; only one that an earlier demo made is deleted."""
    if out.exists() and not out.is_dir():
        raise InputError(f"{str(out)!r} is a file; give a directory for the demo")
    if out.exists() and any(out.iterdir()):
        if not (out / MARK).is_file():
            raise InputError(f"{str(out)!r} is not empty and holds no earlier demo; give an empty directory")
        shutil.rmtree(out)
    out.mkdir(parents=True, exist_ok=True)
    (out / MARK).write_text("This directory was made by hashret demo, which replaces it when it runs again.\n")
    return out


def _galleries(model: CrossModalHasher, held_out: Dataset, out: Path, *, seed: int) -> tuple[Gallery, Gallery]:
    """Ten queries each way, drawn by the seed and not chosen, on held-out emoji."""
    chosen = np.random.default_rng(seed).choice(len(held_out), size=2 * N_QUERIES, replace=False)
    asked = [held_out[int(row)] for row in chosen]
    by_id = {record.id: record for record in held_out}
    words, pictures = [], []
    with (
        Engine.open(out / "emoji.hashret", model=model) as emoji,
        Engine.open(out / "names.hashret", model=model) as names,
    ):
        for record in asked[:N_QUERIES]:
            hits = emoji.search(record.captions[0], k=N_HITS)
            words.append((Query(text=record.captions[0]), tuple(_hits(hits.ids[0], hits.distances[0], record, by_id))))
        for record in asked[N_QUERIES:]:
            hits = names.search(image=record.image, k=4 * N_HITS)
            found = _distinct(_hits(hits.ids[0], hits.distances[0], record, by_id))
            pictures.append((Query(text=record.captions[0], image=record.image), tuple(found)[:N_HITS]))
    return (
        Gallery("Ten words, the pictures found", tuple(words), note="Names drawn at random from the held-out emoji."),
        Gallery(
            "Ten pictures, the names found",
            tuple(pictures),
            note="Each name is shown with the emoji it belongs to; an emoji with several names is shown once.",
        ),
    )


def _hits(ids: Sequence[object], distances: Sequence[int], asked: Record, by_id: dict[str, Record]) -> Iterator[Hit]:
    for id, distance in zip(ids, distances):
        if distance >= 0:
            record = by_id[str(id).split("#")[0]]
            correct = record.id == asked.id
            yield Hit(image=record.image, caption=record.captions[0], distance=int(distance), correct=correct)


def _distinct(hits: Iterator[Hit]) -> Iterator[Hit]:
    seen = set()
    for hit in hits:
        if hit.image not in seen:
            seen.add(hit.image)
            yield hit


def _sections(
    dataset: Dataset,
    result: TrainResult,
    measured: Measured,
    words: Gallery,
    pictures: Gallery,
    seconds: dict[str, float],
) -> tuple[Section, ...]:
    encoders = {modality: tower.encoder.name for modality, tower in result.model.config.towers.items()}
    learned = (
        ("picture encoder", f"{encoders['image']}, frozen"),
        ("text encoder", f"{encoders['text']}, frozen"),
        ("learned from", f"{dataset.splits['train']:,} emoji and their names"),
        ("chosen on", f"{dataset.splits['val']:,} others, epoch {result.epoch}"),
        ("code lengths in one model", ", ".join(map(str, result.model.code_lengths)) + " bits"),
        ("seconds", ", ".join(f"{name} {value:.0f}" for name, value in seconds.items())),
    )
    return (
        first_facts(measured, n_bits=N_BITS, captions="names", pictures="emoji never seen in training"),
        Table("What was learned", ("", ""), learned),
        curves(result.curves),
        retrieval_table(measured, title="Retrieval on held-out emoji", note=NOTE.replace("caption", "name")),
        bytes_plots(measured),
        *((label_table(measured, title="Same group, by label"),) if measured.by_label else ()),
        words,
        pictures,
        Commands(
            "Do it again",
            (
                "hashret demo --out demo-out",
                'hashret search demo-out/emoji.hashret "a happy face"',
                "hashret eval demo-out/run/model --data emoji --split test",
            ),
        ),
        Credits(
            (dataset.credits, "Picture features: EfficientNet-lite0; text features: all-MiniLM-L6-v2; both Apache-2.0.")
        ),
    )


def _subtitle(dataset: Dataset) -> str:
    splits = dataset.splits
    return f"Binary codes for {sum(splits.values()):,} emoji and their names; {splits['test']} of them held out."


class _Clock:
    """Seconds by step."""

    def __init__(self) -> None:
        self.seconds: dict[str, float] = {}

    @contextmanager
    def step(self, name: str) -> Iterator[None]:
        begun = time.perf_counter()
        yield
        self.seconds[name] = time.perf_counter() - begun
