"""Fixtures that every test may use."""

from __future__ import annotations

import importlib.util
import json
import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import pytest

from hashret.cli import main

ROOT = Path(__file__).resolve().parent.parent


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """The research data that stays outside the repository; the test is skipped where it is absent."""
    path = Path(os.environ.get("HASHRET_DATA", ROOT.parent / "shared" / "data"))
    if not path.is_dir():
        pytest.skip("the research data is not here: set HASHRET_DATA to the folder that holds flickr8k/ and wiki/")
    return path


COLOURS = {"red": (220, 30, 30), "green": (30, 160, 60), "blue": (40, 60, 220), "black": (10, 10, 10)}
SHAPES = ("circle", "square", "triangle", "bar")

CONFIG = """
name: tiny
model:
  n_bits: 32
  code_lengths: [16, 32]
  towers:
    image: {encoder: {kind: image, name: test_vit, weights: none}, head: {hidden: 16}}
    text: {encoder: {kind: bag, name: tfidf, vocabulary_size: 64}, head: {hidden: 16}}
stages:
  - {name: heads, epochs: 2, batch_size: 8, losses: {joint: {kind: joint_infonce}}}
selection: {n_bits: 16}
"""


# what the tiny BERT knows
WORDS = ["a", "an", "the", "dog", "cat", "on", "in", "beach", "snow", "runs", "sleeps", "red", "blue", "car", "man"]
WORDS += ["with", "two", "##s", "##ing"]


@dataclass(frozen=True)
class World:
    """Where things are."""

    folder: Path
    captions: Path
    config: Path
    run: Path
    model: Path
    collection: Path


@pytest.fixture(scope="session", autouse=True)
def one_thread() -> None:
    """Small models are quicker on one core, and several test processes share the machine."""
    if importlib.util.find_spec("torch") is not None:
        import torch

        torch.set_num_threads(1)


@pytest.fixture(scope="session")
def world(tmp_path_factory: pytest.TempPathFactory) -> World:
    """Pictures of coloured shapes with captions, a model learned from them, a collection; made once."""
    folder = tmp_path_factory.mktemp("world")
    captions = write_pictures(folder)
    config = folder / "tiny.yaml"
    config.write_text(CONFIG)
    run, collection = folder / "run", folder / "shapes.hashret"
    made = World(folder, captions, config, run, run / "model", collection)
    cache = str(folder / "cache")
    assert main(["train", str(config), "--data", str(captions), "--out", str(run), "--cache", cache]) == 0
    assert main(["index", str(made.model), "--data", str(captions), "--out", str(collection)]) == 0
    return made


@pytest.fixture(scope="session")
def bert_of(tmp_path_factory: pytest.TempPathFactory) -> Callable[[Sequence[str]], Path]:
    """Words -> a folder such as the hub gives: a BERT of 4 layers, 32 wide, and a tokenizer that knows the words."""
    return lambda words: write_bert(tmp_path_factory.mktemp("bert"), words)


@pytest.fixture(scope="session")
def bert_folder(bert_of: Callable[[Sequence[str]], Path]) -> Path:
    """The folder of a BERT that knows ``WORDS``."""
    return bert_of(WORDS)


def write_bert(folder: Path, words: Sequence[str]) -> Path:
    """Configuration, weights and tokenizer of a small BERT, in ``folder``."""
    import torch

    from hashret.encoders import _torchvision

    _torchvision.ready()
    from transformers import BertConfig, BertModel, BertTokenizerFast

    vocabulary = folder / "vocab.txt"
    vocabulary.write_text("\n".join(["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *words]) + "\n")
    torch.manual_seed(0)
    config = BertConfig(
        vocab_size=5 + len(words),
        hidden_size=32,
        num_hidden_layers=4,
        num_attention_heads=4,
        intermediate_size=64,
        max_position_embeddings=48,
        initializer_range=0.3,
    )
    BertModel(config).save_pretrained(folder)
    BertTokenizerFast.from_pretrained(folder).save_pretrained(folder)
    return folder


def write_pictures(folder: Path) -> Path:
    """48 pictures in train, val and test, and captions.jsonl beside them."""
    from PIL import Image, ImageDraw

    lines = []
    for number in range(48):
        colour, shape = list(COLOURS)[number % 4], SHAPES[number // 4 % 4]
        picture = Image.new("RGB", (64, 64), "white")
        draw = ImageDraw.Draw(picture)
        left = 6 + number // 16 * 4
        box = (left, 10, left + 36, 46)
        if shape == "circle":
            draw.ellipse(box, fill=COLOURS[colour])
        elif shape == "triangle":
            draw.polygon([(left, 46), (left + 18, 10), (left + 36, 46)], fill=COLOURS[colour])
        else:
            draw.rectangle(box if shape == "square" else (left, 24, left + 40, 32), fill=COLOURS[colour])
        picture.save(folder / f"{number}.png")
        lines.append(
            {
                "id": f"s{number}",
                "image": f"{number}.png",
                "captions": [f"a {colour} {shape}", f"{shape} in {colour}"],
                "labels": [colour],
                "split": ("train", "val", "test")[number // 16],
                "year": 2000 + number,
            }
        )
    captions = folder / "captions.jsonl"
    captions.write_text("\n".join(map(json.dumps, lines)) + "\n")
    return captions


@pytest.fixture
def run_cli(capsys: pytest.CaptureFixture[str]) -> Callable[..., tuple[int, str, str]]:
    """Run a command in this process: its exit code, and what it printed to stdout and stderr."""

    def run(*arguments: object) -> tuple[int, str, str]:
        capsys.readouterr()
        try:
            code = main([str(argument) for argument in arguments])
        except SystemExit as exit:  # argparse ends the process by itself
            code = int(exit.code or 0)
        printed = capsys.readouterr()
        return code, printed.out, printed.err

    return run
