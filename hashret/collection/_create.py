"""Making a collection: a directory that is complete before it has its name.

Writes the first, empty generation beside the wanted path and renames it, so that nobody ever finds half a collection.
"""

from __future__ import annotations

import os
import secrets
import shutil
import sqlite3
from pathlib import Path
from typing import NamedTuple

from hashret._files import sync_directory
from hashret._text import is_text
from hashret.codes import MAX_BITS, bytes_for
from hashret.collection._catalogue import Catalogue, State
from hashret.collection._codes_file import CodesFile, Header, cannot_write, file_name, rows_of_a_block
from hashret.errors import InputError, StorageError


class About(NamedTuple):
    """What is set when a collection is made."""

    n_bits: int
    number: bytes
    fingerprint: str | None
    model: str | None
    credits: str | None = None


def create(
    path: Path, *, n_bits: int, fingerprint: str | None, model: str | Path | None, credits: str | None = None
) -> None:
    """Make an empty collection at ``path``; arguments as in ``Collection.create``."""
    n_bytes = bytes_for(n_bits)
    for name, value in (("fingerprint", fingerprint), ("model", model), ("credits", credits)):
        if value is not None and not isinstance(value, str | Path):
            raise InputError(f"{name} must be a str, not {value!r}")
        if value is not None and not is_text(str(value)):
            raise InputError(f"{name} is {str(value)!r}, which holds bytes that are no text; give it as plain text")
    number = secrets.token_bytes(16)
    try:
        path = _free(path)
        making = path.with_name(f".{path.name}.{secrets.token_hex(4)}")
        making.mkdir(parents=True)
        try:
            header = Header(int(n_bits), rows_of_a_block(n_bytes), 1, number)
            CodesFile.create(making / file_name(1), header).close()
            Catalogue.create(
                making,
                {
                    "n_bits": str(int(n_bits)),
                    "number": number.hex(),
                    "fingerprint": fingerprint,
                    "model": None if model is None else str(model),
                    **({} if credits is None else {"credits": credits}),
                },
                State(commits=0, generation=1, n_rows=0, n_live=0, next_id=0),
            )
            sync_directory(making)
            making.rename(path)
        except BaseException:
            shutil.rmtree(making, ignore_errors=True)
            raise
        sync_directory(path.parent)
    except StorageError:
        raise
    except (OSError, ValueError, sqlite3.Error) as error:  # ValueError: a NUL in the path
        raise cannot_write(path, error) from error


def _free(path: Path) -> Path:
    """Where the directory is to be, which is not there or empty."""
    if path.exists() and (not path.is_dir() or any(path.iterdir())):
        raise StorageError(f"{path} exists; open it with Collection.open, or choose another path")
    if path.exists() and path.samefile("."):  # it would be replaced under the feet of who stands in it
        raise StorageError("a collection cannot be made in the current directory itself; name a directory in it")
    return Path(os.path.realpath(path)) if path.is_symlink() else path  # no directory is renamed onto a link


def about(catalogue: Catalogue) -> About:
    """What was set when the collection was made.

    Raises:
        CorruptError: it cannot be read.
    """
    stored = catalogue.about()
    try:
        found = About(
            int(stored["n_bits"] or ""),
            bytes.fromhex(stored["number"] or ""),
            stored["fingerprint"],
            stored["model"],
            stored.get("credits"),
        )
    except (KeyError, ValueError) as error:
        raise catalogue.damaged(f"what it says about the collection cannot be read ({error!r})") from error
    if not 1 <= found.n_bits <= MAX_BITS:
        raise catalogue.damaged(f"it says that codes have {found.n_bits} bits")
    return found
