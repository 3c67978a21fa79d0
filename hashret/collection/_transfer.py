"""Export and import: all items of a collection as one file of a format that others read.

    .npz      codes (N, n_bytes) uint8; n_bits; ids int64, or where some are text ids_json, the bytes of N lines of
              JSON; metadata_json, as many lines, where there are any; next_id; fingerprint, where the collection has
              one
    .npy      the codes only; read back, they get automatic ids. It says neither n_bits nor the model
    .parquet  id (int64 or string; JSON where both kinds occur), code (binary), metadata (JSON or null); under the key
              "hashret" of the schema's metadata a JSON object: n_bits, ids (the kind), next_id, fingerprint

.npz and .parquet have checksums of each array or page, and one of all that they say (crc32, beside n_bits): what reads
these formats passes over parts that it does not know, as damage may make them look. .npy has none.

Codes of another model than the collection's are refused, where both name theirs. ``next_id`` keeps the automatic ids
of deleted items from being given again.
A file is written beside its name and renamed, so that it is whole or absent.
"""

from __future__ import annotations

import json
import operator
import warnings
import zlib
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO, NamedTuple

import numpy as np
import numpy.typing as npt

from hashret._files import whole_file
from hashret._lazy import require
from hashret.arrays import NO_ARRAY
from hashret.codes import Codes, bytes_for
from hashret.collection import _write
from hashret.collection._check import Id
from hashret.errors import InputError, MismatchError
from hashret.registry import nearest

if TYPE_CHECKING:
    from hashret.collection._view import View
    from hashret.collection.collection import Collection

_BATCH = 50_000  # rows of Parquet at a time
# what a file from elsewhere may lead to: parts that are missing or of another type, a number without an end, JSON of
# 1,000 brackets (RecursionError, as an archive with a password, is a RuntimeError)
_UNREADABLE = (*NO_ARRAY, KeyError, AttributeError, RuntimeError)


class _Stored(NamedTuple):
    """All that a file has; no texts where it has no metadata, no fingerprint where it names no model."""

    ids: Any
    codes: Codes
    texts: list[str | None] | None
    fingerprint: str | None = None
    next_id: int = 0
    crc: int | None = None  # of all this


class _Metadata(Sequence[Any]):
    """Texts of JSON as dicts, each made when it is asked for: a million of them at once would fill the memory."""

    def __init__(self, texts: list[str | None], path: Path) -> None:
        self._texts, self._path = texts, path

    def __len__(self) -> int:
        return len(self._texts)

    def __getitem__(self, position: Any) -> Any:
        text = self._texts[position]
        try:
            return None if text is None else json.loads(text)
        except (TypeError, ValueError, RecursionError) as error:  # no text; no JSON, or 4,300 digits; 1,000 brackets
            raise InputError(f"{self._path} has metadata that is no JSON ({error}); export it again") from error


def export_to(view: View, n_bits: int, path: Path) -> int:
    """Write all items; arguments and errors as in ``Collection.export_to``."""
    write = _format(path, _WRITERS)
    with whole_file(path, what="the export") as file:
        write(view, n_bits, file)
    return view.state.n_live


def import_from(collection: Collection, path: Path) -> int:
    """Add all items of a file; arguments and errors as in ``Collection.import_from``."""
    read = _format(path, _READERS)
    try:
        there = path.is_file()
    except OSError as error:
        raise InputError(f"{path} cannot be read ({error.strerror}); name another file, or give rights") from error
    if not there:
        raise InputError(f"there is no file {path}")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # numpy's, of a header that Python 2 might have written
        stored: _Stored = read(path, collection.n_bits)
    if stored.fingerprint is not None:
        try:
            collection.check_model(stored.fingerprint)
        except MismatchError as error:
            raise MismatchError(f"{path} holds codes of another model: {error}") from None
    if stored.crc is not None and stored.crc != _crc(_parts(stored), stored.next_id, stored.fingerprint):
        raise InputError(
            f"{path} is not as it was exported: its content does not fit its crc32; export it again, or remove the "
            "crc32 if you have changed it"
        )
    metadata = None if stored.texts is None else _Metadata(stored.texts, path)
    codes, ids, texts = collection._check_items(stored.codes, stored.ids, metadata)
    with collection._session.writing() as view:  # one transaction: all or nothing
        count = len(_write.store(view, codes, ids, texts, replace=False))
        _write.skip_ids(view, stored.next_id)
    return count


def _write_npy(view: View, n_bits: int, file: BinaryIO) -> None:
    rows = np.concatenate([np.zeros(0, np.int64), *(rows for rows, _, _ in view.everything())])
    np.save(file, view.codes[rows])


def _write_npz(view: View, n_bits: int, file: BinaryIO) -> None:
    arrays: dict[str, Any] = {"n_bits": np.int64(n_bits), "next_id": np.int64(view.state.next_id)}
    fingerprint = _fingerprint(view)
    if fingerprint is not None:
        arrays["fingerprint"] = np.array(fingerprint)
    rows, ids, texts = _gathered(view)
    arrays["codes"] = view.codes[rows]
    arrays["crc32"] = np.int64(_crc([(arrays["codes"], ids, texts)], view.state.next_id, fingerprint))
    if _kind(ids) == "int":
        arrays["ids"] = np.array(ids, np.int64)
    else:  # an array of text would give each id the room of the longest
        arrays["ids_json"] = _lines(json.dumps(id) for id in ids)
    if any(texts):
        arrays["metadata_json"] = _lines(text or "{}" for text in texts)
    np.savez(file, **arrays)


def _write_parquet(view: View, n_bits: int, file: BinaryIO) -> None:
    arrow, parquet = require("pyarrow", extra="parquet"), require("pyarrow.parquet", extra="parquet")
    kinds = {_kind(ids) for _, ids, _ in view.everything() if ids}
    kind = kinds.pop() if len(kinds) == 1 else "json" if kinds else "int"
    next_id, fingerprint = view.state.next_id, _fingerprint(view)
    crc = _crc(((view.codes[rows], ids, texts) for rows, ids, texts in view.everything()), next_id, fingerprint)
    about = {"n_bits": n_bits, "ids": kind, "next_id": next_id, "fingerprint": fingerprint, "crc32": crc}
    schema = arrow.schema(
        [
            ("id", arrow.int64() if kind == "int" else arrow.string()),
            ("code", arrow.binary(bytes_for(n_bits))),
            ("metadata", arrow.string()),
        ],
        metadata={"hashret": json.dumps(about)},
    )
    with parquet.ParquetWriter(file, schema, write_page_checksum=True) as writer:
        for rows, ids, texts in view.everything():
            column = [json.dumps(id) for id in ids] if kind == "json" else ids
            codes = [code.tobytes() for code in view.codes[rows]]
            writer.write_table(arrow.table([column, codes, texts], schema=schema))


def _read_npy(path: Path, n_bits: int) -> _Stored:
    try:
        codes = np.load(path, allow_pickle=False)
    except NO_ARRAY as error:
        raise InputError(f"{path} cannot be read as an array of codes: {error}") from error
    if not isinstance(codes, np.ndarray):
        raise InputError(f"{path} holds several arrays; call it .npz if export wrote it, or save the codes alone")
    return _Stored(None, codes, None)


def _array(name: str, value: Any) -> npt.NDArray[Any]:
    if not isinstance(value, np.ndarray):  # numpy gives bytes where a member has no header
        raise ValueError(f"{name} is no array")
    return value


def _read_npz(path: Path, n_bits: int) -> _Stored:
    try:
        with np.load(path, allow_pickle=False) as stored:
            arrays = {name: _array(name, value) for name, value in stored.items()}
        codes, width = arrays["codes"], int(arrays["n_bits"])
        ids = [json.loads(text) for text in _texts(arrays["ids_json"])] if "ids_json" in arrays else arrays["ids"]
        lines = _texts(arrays["metadata_json"]) if "metadata_json" in arrays else None
        fingerprint = str(arrays["fingerprint"]) if "fingerprint" in arrays else None
        next_id = operator.index(arrays.get("next_id", 0))
        crc = operator.index(arrays["crc32"]) if "crc32" in arrays else None
    except (*_UNREADABLE, zlib.error) as error:
        raise InputError(f"{path} cannot be read as an exported collection: {error}") from error
    _check_width(path, width, n_bits)
    if codes.ndim != 2 or (isinstance(ids, np.ndarray) and ids.ndim != 1):
        raise InputError(f"{path} must have codes of two dimensions and ids of one; export it again")
    texts: list[str | None] | None = None if lines is None else [*lines]
    if len(codes) != len(ids) or (texts is not None and len(texts) != len(codes)):
        count = "no" if texts is None else len(texts)
        raise InputError(f"{path} has {len(codes)} codes, {len(ids)} ids and {count} metadata; export it again")
    return _Stored(ids, codes, texts, fingerprint, next_id, crc)


def _read_parquet(path: Path, n_bits: int) -> _Stored:
    arrow, parquet = require("pyarrow", extra="parquet"), require("pyarrow.parquet", extra="parquet")
    n_bytes = bytes_for(n_bits)
    ids: list[Any] = []
    codes: list[Codes] = [np.zeros((0, n_bytes), np.uint8)]
    texts: list[str | None] = []
    try:
        with parquet.ParquetFile(path, page_checksum_verification=True) as file:
            said = {**(file.schema_arrow.metadata or {}), **(file.metadata.metadata or {})}  # the same, but for damage
            about = json.loads(said.get(b"hashret", b"{}"))
            _check_width(path, about.get("n_bits", n_bits), n_bits)
            for batch in file.iter_batches(_BATCH, columns=["id", "code", "metadata"]):
                ids += batch.column("id").to_pylist()
                column = batch.column("code").to_pylist()
                wrong = set(map(len, column)) - {n_bytes}
                if wrong:
                    raise InputError(
                        f"{path} has a code of {min(wrong)} bytes, and codes of {n_bits} bits are {n_bytes}"
                    )
                codes.append(np.frombuffer(b"".join(column), np.uint8).reshape(-1, n_bytes))
                texts += batch.column("metadata").to_pylist()
            if len(ids) != file.metadata.num_rows:
                raise InputError(
                    f"{path} is damaged: of {file.metadata.num_rows} items it has {len(ids)}; export it again"
                )
            if about.get("ids") == "json":
                ids = [json.loads(id) for id in ids]
            next_id = operator.index(about.get("next_id", 0))
            return _Stored(ids, np.concatenate(codes), texts, about.get("fingerprint"), next_id, about.get("crc32"))
    except (*_UNREADABLE, arrow.ArrowException) as error:
        if isinstance(error, InputError):
            raise
        raise InputError(f"{path} cannot be read as an exported collection: {error}") from error


def _parts(stored: _Stored) -> Iterable[tuple[Codes, Any, Sequence[Any]]]:
    for first in range(0, len(stored.codes), _BATCH):
        part = slice(first, first + _BATCH)
        codes = stored.codes[part]
        yield codes, stored.ids[part], [None] * len(codes) if stored.texts is None else stored.texts[part]


def _crc(parts: Iterable[tuple[Codes, Any, Sequence[Any]]], next_id: int, fingerprint: str | None) -> int:
    """Of all that a file says, whatever the parts in which it is given: codes, ids and texts."""
    of_codes = of_ids = of_texts = 0
    for codes, ids, texts in parts:
        of_codes = zlib.crc32(codes.tobytes(), of_codes)
        ids = ids.tolist() if isinstance(ids, np.ndarray) else ids
        of_ids = zlib.crc32("".join([f"{id!r}\n" for id in ids]).encode("utf-8", "surrogatepass"), of_ids)
        lines = "".join(["\n" if text is None or text == "{}" else f"{text}\n" for text in texts])
        of_texts = zlib.crc32(lines.encode("utf-8", "surrogatepass"), of_texts)
    return zlib.crc32(repr((of_codes, of_ids, of_texts, next_id, fingerprint)).encode())


def _lines(texts: Iterable[str]) -> npt.NDArray[np.uint8]:
    return np.frombuffer("\n".join(texts).encode(), np.uint8)


def _texts(lines: npt.NDArray[Any]) -> list[str]:
    """What ``_lines`` has joined, or an array of text, as ids were written at first."""
    return lines.tolist() if lines.dtype.kind == "U" else lines.tobytes().decode().split("\n")


def _gathered(view: View) -> tuple[Any, list[Id], list[str | None]]:
    rows, ids, texts = [np.zeros(0, np.int64)], [], []
    for part_rows, part_ids, part_texts in view.everything():
        rows.append(part_rows)
        ids.extend(part_ids)
        texts.extend(part_texts)
    return np.concatenate(rows), ids, texts


def _kind(ids: list[Id]) -> str:
    kinds = set(map(type, ids))
    return "int" if kinds <= {int} else "str" if kinds == {str} else "json"


def _fingerprint(view: View) -> str | None:
    return view.catalogue.about().get("fingerprint")


def _check_width(path: Path, width: int, n_bits: int) -> None:
    if width != n_bits:
        raise InputError(f"{path} has codes of {width} bits, and the collection's have {n_bits}")


def _format(path: Path, formats: dict[str, Any]) -> Any:
    if path.suffix not in formats:
        raise InputError(
            f"a file of items cannot be {path.suffix or path.name!r}{nearest(path.suffix, tuple(formats))}"
        )
    return formats[path.suffix]


_WRITERS: dict[str, Callable[[Any, int, BinaryIO], None]] = {
    ".npy": _write_npy,
    ".npz": _write_npz,
    ".parquet": _write_parquet,
}
_READERS: dict[str, Callable[[Path, int], _Stored]] = {
    ".npy": _read_npy,
    ".npz": _read_npz,
    ".parquet": _read_parquet,
}
