"""``Collection``: the public face of a collection's directory, whose files the package's docstring draws.

Checks what comes in, runs each call in one snapshot or one transaction, and leaves the work to the modules beside it.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from hashret.codes import Codes, check_codes, one_row
from hashret.collection import _compact, _create, _salvage, _transfer, _verify, _write
from hashret.collection._catalogue import index_name, index_sql
from hashret.collection._check import Id, Ids, check_ids, check_items
from hashret.collection._database import NAME, VERSION
from hashret.collection._search import Searches, metadata_of
from hashret.collection._session import Session
from hashret.collection._view import View
from hashret.collection._where import LOGIC
from hashret.collection.results import CollectionInfo, Items, Salvaged, Verified
from hashret.errors import InputError, MismatchError, UnknownIdError
from hashret.registry import nearest


class Collection(Searches):
    """Codes with ids and metadata in a directory: one process writes, many read, and what is acknowledged stays.

    Made by ``Collection.create`` and ``Collection.open``. A method that changes something returns when the change is
    on the disk. A reader sees the newest committed state at each call, and one state throughout a call; ``snapshot``
    keeps one state for several calls. Calls from several threads wait for each other; only ``interrupt`` does not wait.
    A forked child can neither use nor open what its parent has open: close it before forking, or spawn.
    """

    @classmethod
    def create(
        cls,
        path: str | Path,
        n_bits: int = 128,
        *,
        fingerprint: str | None = None,
        model: str | Path | None = None,
        credits: str | None = None,
    ) -> Collection:
        """Make a new, empty collection and open it for writing.

        Args:
            path: the directory to make; it must not exist, or be empty.
            n_bits: width of the codes, 1 to 4,096.
            fingerprint: of the model that makes the codes; ``check_model`` compares with it.
            model: where that model is, for those who search.
            credits: whom to thank for the pictures; whatever shows them shows it.

        Raises:
            InputError: ``n_bits`` cannot be used.
            StorageError: the directory exists and is not empty, or cannot be made.
        """
        _create.create(Path(path), n_bits=n_bits, fingerprint=fingerprint, model=model, credits=credits)
        return cls(Session(Path(path), mode="w"))

    @classmethod
    def open(cls, path: str | Path, *, mode: str = "r") -> Collection:
        """Open a collection.

        Args:
            path: its directory.
            mode: "r" to read, beside any number of readers and a writer; "w" to read and write, alone.

        Raises:
            LockedError: somebody else writes; the message has the pid.
            StorageError: missing, damaged, foreign, truncated, of a later version, or without the rights.
        """
        if mode not in ("r", "w"):
            raise InputError(f"there is no mode {mode!r}{nearest(str(mode), ('r', 'w'))}")
        return cls(Session(Path(path), mode=mode))

    # what it is

    @property
    def path(self) -> Path:
        """The directory."""
        return self._session.path

    @property
    def mode(self) -> str:
        """ "r" or "w"."""
        return self._session.mode

    @property
    def n_bits(self) -> int:
        """Width of the codes."""
        return self._session.about.n_bits

    @property
    def fingerprint(self) -> str | None:
        """Of the model that made the codes."""
        return self._session.about.fingerprint

    @property
    def model(self) -> str | None:
        """Where that model was when the collection was made."""
        return self._session.about.model

    @property
    def credits(self) -> str | None:
        """Whom to thank for the pictures."""
        return self._session.about.credits

    def check_model(self, fingerprint: str) -> None:
        """Refuse a model that did not make these codes; a collection without a fingerprint takes any.

        Raises:
            MismatchError: the fingerprints differ.
        """
        if self.fingerprint is not None and fingerprint != self.fingerprint:
            raise MismatchError(
                f"the codes in {self.path} were made by the model {self.fingerprint[:12]}…, and this is the model "
                f"{str(fingerprint)[:12]}…; their distances mean nothing: load the model that made them"
                + (f" ({self.model})" if self.model else "")
                + ", or encode the items again"
            )

    def info(self) -> CollectionInfo:
        """What the collection is and holds."""
        with self._session.reading() as view:
            state, about = view.state, self._session.about
            files = (self.path / (NAME + tail) for tail in ("", "-wal"))
            return CollectionInfo(
                path=str(self.path),
                version=VERSION,
                n_bits=about.n_bits,
                fingerprint=about.fingerprint,
                model=about.model,
                credits=about.credits,
                count=state.n_live,
                dead=state.n_rows - state.n_live,
                generation=state.generation,
                indexes=tuple(sorted(view.catalogue.indexes())),
                codes_bytes=view.file.size,
                catalogue_bytes=sum(file.stat().st_size for file in files if file.exists()),
            )

    def __repr__(self) -> str:
        return f"Collection({str(self.path)!r}, n_bits={self.n_bits}, mode={self.mode!r})"

    # reading

    def __len__(self) -> int:
        with self._session.reading() as view:
            return view.state.n_live

    def __contains__(self, id: object) -> bool:
        try:
            ids = check_ids([id])
        except InputError:
            return False
        with self._session.reading() as view:
            return bool(view.rows_of(ids)[0] >= 0)

    def __iter__(self) -> Iterator[Id]:
        """The ids in the order of insertion, of one state throughout."""
        with self._session.lasting() as view:
            for _, ids, _ in view.everything():
                yield from ids

    def get(self, ids: Any) -> Items:
        """The stored items with these ids, in their order; a single id gives one.

        Raises:
            UnknownIdError: some are not here; the message lists a few.
        """
        checked = check_ids(ids)
        with self._session.reading() as view:
            rows = self._rows(view, checked)
            _, texts = view.items(rows)
            codes = np.take(view.codes, rows, axis=0)
        return Items(_as_list(checked), codes, [metadata_of(text) for text in texts])

    def codes(self, ids: Any) -> Codes:
        """The codes of these ids, (n, n_bytes) uint8.

        Raises:
            UnknownIdError: some are not here.
        """
        checked = check_ids(ids)
        with self._session.reading() as view:
            return np.take(view.codes, self._rows(view, checked), axis=0)

    def snapshot(self) -> Collection:
        """A reader that stays at the state of now until it is closed or refreshed, whatever is written meanwhile."""
        return Collection(self._session.snapshot())

    def refresh(self) -> bool:
        """Take over what was committed since the last call; whether anything was. Moves a snapshot to now."""
        return self._session.refresh()

    def interrupt(self) -> None:
        """Stop what another thread reads of metadata here, as for a filter: it raises a StorageError there.

        A scan of codes goes on to its end.
        """
        self._session.interrupt()

    # writing

    def add(
        self, codes: Codes, ids: Any = None, metadata: Sequence[Mapping[str, Any] | None] | None = None
    ) -> Sequence[Id]:
        """Store new items; all of them or, where anything is wrong, none.

        Args:
            codes: (N, n_bytes) uint8; a single code (n_bytes,) is one item.
            ids: N ids, str or int (64 bits); 1 and "1" are different. None numbers the items on from the largest
                integer id so far, or 0.
            metadata: N dicts (or None) that JSON can hold.

        Returns:
            The ids.

        Raises:
            CodeError: the codes do not fit the width.
            InputError: an id is here already or given twice, or something cannot be stored.
            StorageError: the disk is full or fails; the collection is as before, or the message says what is not known.
        """
        codes, checked, texts = self._check_items(codes, ids, metadata)
        with self._session.writing() as view:
            return _write.store(view, codes, checked, texts, replace=False)

    def upsert(
        self, codes: Codes, ids: Any, metadata: Sequence[Mapping[str, Any] | None] | None = None
    ) -> Sequence[Id]:
        """Store items, in place of those with the same ids where there are any; arguments as in ``add``.

        Code and metadata are both replaced, and a replaced item counts as inserted now.

        Returns:
            The ids.

        Raises:
            InputError: there are no ids, or one is given twice; others as in ``add``.
        """
        if ids is None:
            raise InputError("upsert needs ids; to store under new ids use add")
        codes, checked, texts = self._check_items(codes, ids, metadata)
        with self._session.writing() as view:
            return _write.store(view, codes, checked, texts, replace=True)

    def delete(self, ids: Any) -> None:
        """Remove items; all of them or, where an id is unknown, none. Their space comes back with ``compact``.

        Raises:
            UnknownIdError: some ids are not here; the message lists a few.
        """
        checked = check_ids(ids)
        with self._session.writing() as view:
            _write.delete(view, np.unique(self._rows(view, checked, outcome="; nothing was changed")))

    def compact(self) -> None:
        """Free the space of deleted and replaced items. Readers go on undisturbed."""
        with self._session.writing() as view:
            compacted = _compact.rewrite(view)
        if compacted:
            self._session.clean_up()

    def create_index(self, field: str) -> None:
        """Make filters on a metadata field fast; an index that is there already stays.

        Raises:
            InputError: the field's name cannot be searched.
        """
        statement = index_sql(field)
        if field in LOGIC:
            raise InputError(
                f"no filter can name the field {field!r}, which is a word of filters; give it another name"
            )
        with self._session.writing() as view:
            if field not in view.catalogue.indexes():
                view.catalogue.execute(statement)

    def drop_index(self, field: str) -> None:
        """Remove the index on a metadata field.

        Raises:
            InputError: there is none.
        """
        with self._session.writing() as view:
            known = tuple(view.catalogue.indexes())
            if field not in known:
                raise InputError(f"there is no index on {field!r}{nearest(str(field), known)}")
            view.catalogue.execute(f"DROP INDEX {index_name(field)}")

    # care

    def verify(self) -> Verified:
        """Read everything and compare it with its checksums.

        Raises:
            CorruptError: something is damaged; the message names file and place, and the remedy.
        """
        with self._session.reading() as view:
            return _verify.verify(view)

    @staticmethod
    def salvage(path: str | Path, out: str | Path) -> Salvaged:
        """Copy what is intact of a damaged collection into a new one.

        Args:
            path: the damaged collection; it is only read.
            out: the directory to make.

        Raises:
            StorageError: nothing can be saved (the catalogue or the header is unreadable), or ``out`` cannot be made.
        """
        return _salvage.salvage(Path(path), Path(out))

    def export_to(self, path: str | Path) -> int:
        """Write all items to a file, in order: .npz, .npy (codes only) or .parquet; how many."""
        with self._session.lasting() as view, view.lock:
            return _transfer.export_to(view, self.n_bits, Path(path))

    def import_from(self, path: str | Path) -> int:
        """Add all items of a file that ``export_to`` wrote; how many.

        Raises:
            InputError: another width, ids that are here already, or no such file.
            MismatchError: codes of another model.
        """
        return _transfer.import_from(self, Path(path))

    def close(self) -> None:
        """Let go of files, maps and the writer's lock. Closing twice does nothing."""
        self._session.close()

    def __enter__(self) -> Collection:
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()

    def _check_items(self, codes: Any, ids: Any, metadata: Any) -> tuple[Codes, Ids | None, list[str | None] | None]:
        codes = check_codes(one_row(codes), n_bits=self.n_bits)
        if isinstance(metadata, dict) and len(codes) == 1:
            metadata = [metadata]
        return codes, *check_items(ids, metadata, count=len(codes))

    def _rows(self, view: View, ids: Ids, *, outcome: str = "") -> npt.NDArray[np.int64]:
        rows = view.rows_of(ids)
        missing = np.flatnonzero(rows < 0)
        if len(missing):
            listed = ", ".join(repr(_as_list(ids)[at]) for at in missing[:5].tolist())
            more = f" and {len(missing) - 5} more" if len(missing) > 5 else ""
            raise UnknownIdError(f"{self.path} does not hold the id {listed}{more}{outcome}")
        return rows


def _as_list(ids: Ids) -> list[Id]:
    return ids if isinstance(ids, list) else ids.tolist()
