"""Features that are computed once: what a frozen prefix gives, on disk and memory-mapped.

Knows encoders only through ``prepare``, ``prefix``, ``size_of`` and ``prefix_fingerprint``. One folder an entry, named
by the sha256 of the prefix' fingerprint and the items:

    <key>/cache.json    format, counts, the CRC-32 of every file
    <key>/tokens.npy    (T, D) float16, every item's tokens one after the other, in the order of computing
    <key>/starts.npy    (M,) int64, the row of tokens.npy where item m begins
    <key>/lengths.npy   (M,) int32, how many tokens item m has
    <key>/pooled.npy    (M, D) float32

tokens, starts and lengths are missing where the pooled vector is the only token; pooled is missing at the border before
a trained suffix. An entry is written as ``<key>.part``, synced, and renamed when it is whole, under a lock that the
system frees when its holder dies: a kill leaves a ``.part`` that the next run removes, and never half an entry.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import logging
import os
import shutil
import stat
import zlib
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from hashret._files import cache_home, locked, sync_directory
from hashret._lazy import progress
from hashret.data import decode_image
from hashret.encoders.base import Encoded, Encoder, single
from hashret.errors import CorruptError, HashretError, InputError, StorageError

FORMAT = 1
_FACTS = "cache.json"
_SAMPLE = 8192  # bytes of a file that are looked at; 8,000 files take a quarter of a second
_HALF = 65504.0  # the largest float16: beyond it a feature would turn into infinity
_log = logging.getLogger(__name__)


class CachedFeatures:
    """Cached features of M items, memory-mapped.

    Attributes:
        path: the entry's folder.
        pooled: (M, D) float32, or None at the border before a trained suffix.
        width: D.
    """

    def __init__(self, path: str | Path) -> None:
        """Open the entry at ``path`` and check every byte.

        Raises:
            CorruptError: a file is missing, cut short or changed.
        """
        self.path = Path(path)
        try:
            facts = json.loads((self.path / _FACTS).read_text(encoding="utf-8"))
            if facts["format"] != FORMAT:
                raise ValueError(f"format {facts['format']}")
            for name, crc in facts["files"].items():
                if _crc(self.path / name) != crc:
                    raise ValueError(f"{name} has changed since it was written")
            arrays = {name: np.load(self.path / name, mmap_mode="r") for name in facts["files"]}
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise CorruptError(f"the cached features in {str(self.path)!r} are damaged: {error}") from error
        self.pooled: np.ndarray | None = arrays.get("pooled.npy")
        self._tokens: np.ndarray | None = arrays.get("tokens.npy")
        self._starts, self._lengths = arrays.get("starts.npy"), arrays.get("lengths.npy")
        self._count = int(facts["items"])
        self.width = int(facts["width"])

    def __len__(self) -> int:
        return self._count

    def batch(self, rows: Tensor | np.ndarray | Sequence[int]) -> Encoded:
        """The features of ``rows``, (B,) int, as float32 CPU tensors; padded to the longest of them.

        Raises:
            InputError: a row is outside 0 … M-1.
        """
        wanted = np.asarray(rows, dtype=np.int64).reshape(-1)
        if wanted.size and (wanted.min() < 0 or wanted.max() >= self._count):
            raise InputError(f"rows must lie in 0 … {self._count - 1}, not {wanted.min()} … {wanted.max()}")
        pooled = None if self.pooled is None else torch.from_numpy(self.pooled[wanted])
        if self._tokens is None or self._starts is None or self._lengths is None:
            if pooled is None:
                raise CorruptError(f"the cached features in {str(self.path)!r} hold neither tokens nor vectors")
            return single(pooled)
        starts, lengths = self._starts[wanted], self._lengths[wanted]
        longest = int(lengths.max(initial=1))
        within = np.arange(longest)
        mask = within < lengths[:, None]
        places = np.where(mask, starts[:, None] + within, 0)
        tokens = torch.from_numpy(self._tokens[places]).float()
        held = torch.from_numpy(mask)
        return Encoded(tokens.masked_fill_(~held.unsqueeze(-1), 0.0), held, pooled)


def cached_prefix(
    encoder: Encoder,
    items: Sequence[Any],
    *,
    cache_dir: str | Path | None = None,
    batch_size: int = 64,
    label: str = "features",
) -> CachedFeatures:
    """What ``encoder.prefix`` gives for every item: from the cache, or computed now and cached.

    Args:
        encoder: its ``prefix_fingerprint`` is half of the entry's name.
        items: what ``encoder.prepare`` takes. Texts count by their words, arrays and pictures by their content, files
            by name, size, time of change and some of their content, so that a folder may be moved.
        cache_dir: where entries lie; None = ``HASHRET_CACHE``, or ``~/.cache/hashret``.
        batch_size: items computed together.
        label: what the progress bar says.

    Raises:
        DataError: an item cannot be prepared.
        StorageError: the cache cannot be written, for instance because the disk is full; nothing half is left.
    """
    root = Path(cache_dir) if cache_dir is not None else cache_home()
    name = hashlib.sha256(
        f"{FORMAT} {encoder.prefix_fingerprint} {_digest(items, files=not encoder.takes_words)}".encode()
    ).hexdigest()[:32]
    entry = root / name
    try:
        root.mkdir(parents=True, exist_ok=True)
        with _locked(root / f"{name}.lock"):
            if entry.exists():
                try:
                    return CachedFeatures(entry)
                except CorruptError as error:
                    _log.warning("%s; they are computed again", error)
                    shutil.rmtree(entry)
            part = root / f"{name}.part"
            shutil.rmtree(part, ignore_errors=True)
            try:
                _compute(encoder, items, part, batch_size=batch_size, label=label)
                part.replace(entry)
                sync_directory(root)
            except BaseException:
                shutil.rmtree(part, ignore_errors=True)
                raise
        return CachedFeatures(entry)
    except HashretError:
        raise
    except OSError as error:
        raise StorageError(
            f"the cache of features in {str(root)!r} cannot be written: {error}; make room, or name another place "
            f"with cache_dir or HASHRET_CACHE. Nothing half was left there"
        ) from error


def _compute(encoder: Encoder, items: Sequence[Any], part: Path, *, batch_size: int, label: str) -> None:
    """Write a whole entry into ``part``; ``cache.json`` comes last."""
    part.mkdir()
    # Longest first: a batch too large for the memory fails at once, and texts of one length need little padding.
    order = sorted(range(len(items)), key=lambda row: -encoder.size_of(items[row]))
    batches = [order[start : start + batch_size] for start in range(0, len(order), batch_size)] or [[]]
    starts, lengths = np.zeros(len(items), np.int64), np.zeros(len(items), np.int32)
    written = width = 0
    with contextlib.ExitStack() as stack:
        files: dict[str, _Rows] = {}

        def put(name: str, dtype: Any, rows: Sequence[int], values: np.ndarray) -> None:
            if name not in files:
                files[name] = stack.enter_context(_Rows(part / name, dtype, values.shape[1]))
            files[name].put(rows, values)

        for rows, encoded in progress(_encoded(encoder, items, batches), label=label, total=len(batches), unit="batch"):
            width = encoded.tokens.shape[2]
            if encoded.pooled is not None:
                put("pooled.npy", np.float32, rows, encoded.pooled.float().cpu().numpy())
            if encoded.pooled is None or encoder.config.output == "tokens":
                mask = encoded.mask.cpu()
                counts = mask.sum(1).numpy()
                flat = encoded.tokens.cpu()[mask].clamp(-_HALF, _HALF).half().numpy()
                put("tokens.npy", np.float16, range(written, written + len(flat)), flat)
                starts[rows], lengths[rows] = written + np.cumsum(counts) - counts, counts
                written += len(flat)
    if "tokens.npy" in files:
        np.save(part / "starts.npy", starts)
        np.save(part / "lengths.npy", lengths)
    checks = {path.name: _crc(path) for path in sorted(part.iterdir())}
    facts = {"format": FORMAT, "items": len(items), "width": width, "files": checks}
    (part / _FACTS).write_text(json.dumps(facts, indent=1) + "\n", encoding="utf-8")
    for path in part.iterdir():
        with path.open("rb") as file:
            os.fsync(file.fileno())
    sync_directory(part)


def _encoded(encoder: Encoder, items: Sequence[Any], batches: list[list[int]]) -> Iterator[tuple[list[int], Encoded]]:
    """Batches through the prefix; the next one is decoded while this one is computed."""
    with ThreadPoolExecutor(max_workers=1) as ahead:
        waiting = [ahead.submit(encoder.prepare, [items[row] for row in rows]) for rows in batches[:1]]
        for number, rows in enumerate(batches):
            inputs = waiting.pop().result()
            if number + 1 < len(batches):
                waiting.append(ahead.submit(encoder.prepare, [items[row] for row in batches[number + 1]]))
            with torch.inference_mode():
                yield rows, encoder.prefix(inputs)


class _Rows:
    """A .npy file of (rows, width) whose rows are written in any order."""

    def __init__(self, path: Path, dtype: Any, width: int) -> None:
        self._file = path.open("w+b")
        self._dtype, self._width, self._rows = np.dtype(dtype), width, 0
        self._header()
        self._start = self._file.tell()

    def _header(self) -> None:
        # numpy leaves room for the first axis to grow, so the header keeps its length when it is written again.
        fields = {"descr": np.lib.format.dtype_to_descr(self._dtype), "fortran_order": False}
        np.lib.format.write_array_header_1_0(self._file, {**fields, "shape": (self._rows, self._width)})

    def put(self, rows: Sequence[int], values: np.ndarray) -> None:
        values = np.ascontiguousarray(values, dtype=self._dtype)
        size = self._width * self._dtype.itemsize
        for first, last in _runs(rows):
            self._file.seek(self._start + rows[first] * size)
            self._file.write(values[first:last].data)
        self._rows = max(self._rows, max(rows, default=-1) + 1)

    def __enter__(self) -> _Rows:
        return self

    def __exit__(self, *problem: object) -> None:
        with self._file:
            if problem[0] is None:
                self._file.seek(0)
                self._header()


def _runs(rows: Sequence[int]) -> Iterator[tuple[int, int]]:
    """Stretches first … last-1 of ``rows`` that count up one by one."""
    first = 0
    for i in range(1, len(rows) + 1):
        if i == len(rows) or rows[i] != rows[i - 1] + 1:
            yield first, i
            first = i


def _digest(items: Sequence[Any], *, files: bool) -> str:
    """sha256 over what tells these items from others; with ``files`` a string is a path."""
    digest = hashlib.sha256()
    for item in items:
        content = _content(item, files=files)
        digest.update(b"%d " % len(content))  # no text can then look like the border between two
        digest.update(content)
    return digest.hexdigest()


def _content(item: Any, *, files: bool) -> bytes:
    if isinstance(item, Path) or (files and isinstance(item, str)):
        return _of_file(Path(item))
    if isinstance(item, str):
        return item.encode("utf-8", "surrogatepass")
    if isinstance(item, bytes):
        return item
    look = b""
    if hasattr(item, "getexif"):  # a PIL image, whose palette, transparency and rotation lie outside of its pixels
        seen = decode_image(item)
        look = f"{item.mode} {seen.size} ".encode() + seen.tobytes()
    array = np.asarray(item)
    return look + f"{array.dtype} {array.shape}".encode() + np.ascontiguousarray(array).tobytes()


def _of_file(path: Path) -> bytes:
    """What tells a file from others without reading all of it.

    Its name alone, for the same folder may be given by another path the next time. Name, size and time do not do:
    uncompressed pictures of one shape have one size, and copying and unpacking may give every file one time.
    """
    try:
        facts = path.stat()
        text, sample = f"{path.name}\0{facts.st_size}\0{facts.st_mtime_ns}\0", b""
        if stat.S_ISREG(facts.st_mode):  # opening a pipe would wait for ever
            with path.open("rb", buffering=0) as file:
                file.seek(max(0, (facts.st_size - _SAMPLE) // 2))  # files of a kind begin and end alike
                sample = file.read(_SAMPLE)
    except OSError:
        text, sample = str(path), b""  # reading it fails with a better sentence
    return text.encode("utf-8", "surrogateescape") + hashlib.sha256(sample).digest()


def _crc(path: Path) -> int:
    value = 0
    with path.open("rb") as file:
        while chunk := file.read(1 << 22):
            value = zlib.crc32(chunk, value)
    return value


@contextlib.contextmanager
def _locked(path: Path) -> Iterator[None]:
    """Hold ``path`` alone; the system lets go when the process ends, however it ends."""
    with path.open("w") as file:
        locked(file, wait=True)  # without locks two processes may compute the same entry; the first rename wins
        yield
