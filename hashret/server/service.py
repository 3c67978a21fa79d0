"""The collection, its model and the threads that work on them: several readers, one encoder, one writer.

A search takes a reader of its own, so that searches run side by side and never wait for a write; all writes go through
one thread. Knows nothing of HTTP.
"""

from __future__ import annotations

import asyncio
import logging
import os
import queue
import threading
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path
from typing import Any, Literal, TypeVar

import numpy as np

from hashret.collection import Collection, CollectionHits
from hashret.engine import Engine
from hashret.errors import HashretError, InputError, StorageError
from hashret.server.batching import Batcher
from hashret.server.fields import Field, fields_of
from hashret.server.problems import ApiError, busy
from hashret.server.settings import Settings

Encoder = Literal["ready", "starting", "absent", "failed"]
T = TypeVar("T")
_LOG = logging.getLogger(__name__)


class Service:
    """Open from construction to ``close``.

    Args:
        path: the collection's directory.
        model: the model's directory, if not where the collection says.
        settings: the limits.
        batched: told the size of every batch of the encoder and its seconds.

    Raises:
        StorageError: there is no readable collection, or no directory ``model``.
    """

    def __init__(
        self, path: str | Path, *, model: str | Path | None, settings: Settings, batched: Callable[[int, float], None]
    ) -> None:
        self.path, self._settings = Path(path).absolute(), settings  # as errors quote it, which must not show it
        threads = settings.encoder_threads or max(1, (os.cpu_count() or 1) // 2)
        self._engine = Engine.open(self.path, model=model, threads=threads)
        self._readers: queue.SimpleQueue[Collection] = queue.SimpleQueue()
        self._all = [Collection.open(self.path) for _ in range(settings.readers)]
        for reader in self._all:
            self._readers.put(reader)
        self._writer: Collection | None = None
        self._searching = Pool("search", settings.readers, settings.max_queue)
        self._writing = Pool("write", 1, settings.max_queue)
        self.encoder: Encoder = "absent" if model is None and self._engine.collection.model is None else "starting"
        self.batcher = Batcher(
            self._encode_now,
            size=settings.batch_size,
            wait_ms=settings.batch_wait_ms,
            max_queue=settings.max_queue,
            seen=batched,
        )
        self._fields: tuple[Any, tuple[Field, ...]] = (None, ())  # of which state, and they
        self._facts(self._all[0])
        self._loading: asyncio.Task[None] | None = None

    @property
    def n_bits(self) -> int:
        """Width of the codes."""
        return self._engine.collection.n_bits

    @property
    def credits(self) -> str:
        """Whom to thank for the pictures, as the collection says."""
        return self._engine.collection.credits or ""

    def waiting(self) -> dict[str, int]:
        """How many requests wait for or are with each kind of thread."""
        return {
            "encode": self.batcher.waiting,
            "search": self._searching.count,
            "write": self._writing.count,
        }

    # life

    async def start(self) -> None:
        """Begin to take requests, and load the model meanwhile."""
        self.batcher.start()
        self._loading = asyncio.create_task(self._load())

    async def stop(self) -> None:
        """Finish what was begun, then close the collection."""
        if self._loading is not None:
            await self._loading
        await self.batcher.stop()
        self._searching.close()
        self._writing.close()
        for collection in (*self._all, self._writer, self._engine):
            if collection is not None:
                collection.close()

    async def _load(self) -> None:
        if self.encoder == "absent":
            return
        try:
            await self.batcher.run(self._warm_up)
            self.encoder = "ready"
        except HashretError as error:
            self.encoder = "failed"
            _LOG.warning("words and pictures cannot be looked for: %s", error)
        except Exception as error:
            self.encoder = "failed"
            _LOG.exception("the model cannot be loaded", exc_info=error)

    def _warm_up(self) -> None:
        """Encode one item of each kind, so that a tower that cannot be used is told before somebody asks."""
        self._encode_now("text", ["a picture"])
        with suppress(InputError):  # of a model of other features, which has no use for pictures
            self._encode_now("image", [np.zeros((64, 64, 3), np.uint8)])

    # encoding

    async def encode(self, modality: str, item: Any) -> np.ndarray:
        """(n_bytes,) uint8: the code of words or of a picture; errors as of ``encode_all``."""
        code: np.ndarray = (await self.encode_all(modality, [item]))[0]
        return code

    async def encode_all(self, modality: str, items: Sequence[Any]) -> np.ndarray:
        """(n, n_bytes) uint8: the codes of the n > 0 items of one request.

        Raises:
            ApiError: there is no model, or it cannot be used, or too many wait for it.
            HashretError: an item cannot be encoded.
        """
        if self.encoder == "starting" and self._loading is not None:
            await asyncio.shield(self._loading)
        if self.encoder == "absent":
            raise ApiError(
                422, "this collection says no model, so words and pictures have no codes; look by id or by code"
            )
        if self.encoder == "failed":
            raise ApiError(
                503, "words and pictures cannot be looked for: the model cannot be loaded; the server's log says why"
            )
        return await self.batcher.encode(modality, items)

    def _encode_now(self, modality: str, items: Sequence[Any]) -> np.ndarray:
        model = self._engine.model
        encode = model.encode_texts if modality == "text" else model.encode_images
        return encode(list(items), n_bits=self.n_bits)

    # reading

    async def search(
        self,
        codes: np.ndarray,
        *,
        k: int,
        radius: int | None,
        where: dict[str, Any] | None,
        form: Callable[[CollectionHits], T],
    ) -> T:
        """Hits of each of the (Q, n_bytes) codes, in a ``form`` that they get in the thread: many take long."""
        return await self.read(lambda reader: form(reader.search(codes, k, where=where, radius=radius)))

    async def like(
        self,
        id: str | int,
        *,
        k: int,
        radius: int | None,
        where: dict[str, Any] | None,
        form: Callable[[CollectionHits], T],
    ) -> T:
        """Hits of the code of an item, in a ``form``."""
        return await self.read(lambda reader: form(reader.search(reader.codes([id]), k, where=where, radius=radius)))

    async def count(self) -> int:
        """How many items there are."""
        return await self.read(len)

    async def facts(self) -> tuple[int, tuple[Field, ...]]:
        """How many items there are, and the fields that are worth filtering by."""
        return await self.read(self._facts)

    def _facts(self, reader: Collection) -> tuple[int, tuple[Field, ...]]:
        info = reader.info()
        state = (info.generation, info.count, info.dead)  # every change but an index adds rows, or kills or frees some
        if self._fields[0] != state:
            self._fields = (state, fields_of(reader))
        return info.count, self._fields[1]

    async def read(self, work: Callable[[Collection], T]) -> T:
        """Do ``work`` with a reader that nobody else has meanwhile; where this is cancelled, so is the work."""
        at_work: Collection | None = None
        change = threading.Lock()  # a reader must not be stopped once it is with the next request

        def with_reader() -> T:
            nonlocal at_work
            reader = self._readers.get()
            with change:
                at_work = reader
            try:
                return work(reader)
            finally:
                with change:
                    at_work = None
                self._readers.put(reader)

        try:
            return await self._searching.run(with_reader)
        except asyncio.CancelledError:
            with change:
                if at_work is not None:
                    at_work.interrupt()
            raise

    # writing

    async def write(self, work: Callable[[Collection], T]) -> T:
        """Do ``work`` with the collection open for writing; what it did is durable when this returns.

        Raises:
            LockedError: another process writes.
        """

        def with_writer() -> T:
            if self._writer is None:  # at the first write: until then another process may have it
                self._writer = self._opened()
            try:
                done = work(self._writer)
            except StorageError:
                self._forget_moved(self._writer)
                raise
            self._writing.then(self._compact)
            return done

        return await self._writing.run(with_writer)

    def _opened(self) -> Collection:
        writer = Collection.open(self.path, mode="w")
        try:
            len(self._engine.collection)  # refuses another collection in the place of the one that is served
        except BaseException:
            writer.close()
            raise
        return writer

    def _forget_moved(self, writer: Collection) -> None:
        """Close a writer whose files were moved or replaced: it can write no more, and the next write opens anew."""
        try:
            writer.refresh()
        except StorageError:
            self._writer = None
            writer.close()

    def _compact(self) -> None:
        """Free the space of dead rows where they are most; searches go on, and the next write waits."""
        try:
            if self._writer is not None and self._writer.info().wasteful:
                self._writer.compact()
        except HashretError as error:
            _LOG.warning("the collection is not compacted: %s", error)


class Pool:
    """Threads with a bound on what may wait for them.

    Args:
        name: what they do, for sentences.
        threads: how many.
        max_queue: how many calls may wait for them.
    """

    def __init__(self, name: str, threads: int, max_queue: int) -> None:
        self._name, self._most = name, threads + max_queue
        self._threads = ThreadPoolExecutor(threads, thread_name_prefix=f"hashret-{name}")
        self._lock = threading.Lock()
        self.count = 0  # what waits or is under way

    async def run(self, work: Callable[[], T]) -> T:
        """Do ``work`` in a thread.

        Raises:
            ApiError: 503, where too many wait.
        """
        if self.count >= self._most:
            raise busy(f"{self.count} requests wait to {self._name}, which is as many as may; try again in a second")
        with self._lock:
            self.count += 1
        future = self._threads.submit(work)
        future.add_done_callback(self._done)  # also where who asked has given up, but the work is not done before
        return await asyncio.wrap_future(future)

    def then(self, work: Callable[[], None]) -> None:
        """Do ``work`` after what waits; nobody waits for it, and where the threads are ending it is left."""
        with suppress(RuntimeError):
            self._threads.submit(work)

    def close(self) -> None:
        """Finish what waits, then end the threads."""
        self._threads.shutdown(wait=True)

    def _done(self, future: Any) -> None:
        with self._lock:
            self.count -= 1
