"""Encoder calls of several requests, made together: a queue, a short wait for company, one thread.

Knows nothing of HTTP or models: it is given a function from a list of items to codes.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any, NamedTuple

import numpy as np

from hashret.server.problems import busy

Encode = Callable[[str, Sequence[Any]], np.ndarray]


class _Waiting(NamedTuple):
    modality: str
    items: Sequence[Any]
    answer: asyncio.Future[np.ndarray]


class Batcher:
    """Encodes the items of several requests at a time.

    Args:
        encode: modality and n items to (n, n_bytes) uint8; runs in one thread of its own.
        size: items of one call.
        wait_ms: how long the first item waits for more.
        max_queue: requests that may wait; beyond them one is refused.
        seen: told the size of every batch and the seconds that it took.
    """

    def __init__(
        self, encode: Encode, *, size: int, wait_ms: float, max_queue: int, seen: Callable[[int, float], None]
    ) -> None:
        self._encode, self._size, self._wait_s, self._seen = encode, size, wait_ms / 1000, seen
        self._queue: asyncio.Queue[_Waiting | None] = asyncio.Queue(max_queue)
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="hashret-encode")
        self._worker: asyncio.Task[None] | None = None

    def start(self) -> None:
        """Begin to work; within a running event loop."""
        self._worker = asyncio.create_task(self._work())

    async def stop(self) -> None:
        """Finish what waits, then end."""
        if self._worker is not None:
            await self._queue.put(None)
            await self._worker
        self._thread.shutdown(wait=True)

    @property
    def waiting(self) -> int:
        """Requests in the queue."""
        return self._queue.qsize()

    async def encode(self, modality: str, items: Sequence[Any]) -> np.ndarray:
        """(n, n_bytes) uint8: the codes of n > 0 items of one request.

        The queue holds ``size`` of them at a time, so that others are encoded in between.

        Raises:
            ApiError: too many wait.
            HashretError: an item cannot be encoded.
        """
        codes: list[np.ndarray] = []
        for start in range(0, len(items), self._size):
            piece = items[start : start + self._size]
            waiting = _Waiting(modality, piece, asyncio.get_running_loop().create_future())
            if codes:  # what was let in is not refused half-way
                await self._queue.put(waiting)
            else:
                self._let_in(waiting)
            codes.append(await waiting.answer)
        return np.concatenate(codes)

    async def run(self, function: Callable[[], Any]) -> Any:
        """Call ``function`` in the encoder's thread."""
        return await asyncio.get_running_loop().run_in_executor(self._thread, function)

    def _let_in(self, waiting: _Waiting) -> None:
        try:
            self._queue.put_nowait(waiting)
        except asyncio.QueueFull:
            raise busy(
                f"{self._queue.maxsize} queries wait for the encoder, which is as many as may; try again in a second"
            ) from None

    async def _work(self) -> None:
        first = await self._queue.get()
        while first is not None:
            batch, left = await self._collect(first)
            for modality in dict.fromkeys(waiting.modality for waiting in batch):
                await self._answer(modality, [waiting for waiting in batch if waiting.modality == modality])
            first = left or await self._queue.get()

    async def _collect(self, first: _Waiting) -> tuple[list[_Waiting], _Waiting | None]:
        """A batch that begins with ``first``, and the one that came next and did not fit into it."""
        batch, count = [first], len(first.items)
        loop = asyncio.get_running_loop()
        end = loop.time() + self._wait_s
        while count < self._size:
            try:
                if self._queue.empty():
                    async with asyncio.timeout_at(end):
                        following = await self._queue.get()
                else:
                    following = self._queue.get_nowait()
            except TimeoutError:
                break
            if following is None:
                self._queue.put_nowait(None)  # the end comes after this batch
                break
            count += len(following.items)
            if count > self._size:
                return batch, following
            batch.append(following)
        return batch, None

    async def _answer(self, modality: str, batch: list[_Waiting]) -> None:
        batch = [waiting for waiting in batch if not waiting.answer.done()]  # who gave up is not worked for
        if not batch:
            return
        loop = asyncio.get_running_loop()
        started = loop.time()
        items = [item for waiting in batch for item in waiting.items]
        try:
            codes = await self.run(lambda: self._encode(modality, items))
        except Exception as error:
            if len(batch) > 1:  # a bad item is not to fail its neighbours of other requests
                for waiting in batch:
                    await self._answer(modality, [waiting])
                return
            for waiting in batch:
                if not waiting.answer.done():
                    waiting.answer.set_exception(error)
            return
        self._seen(len(items), loop.time() - started)
        start = 0
        for waiting in batch:
            if not waiting.answer.done():
                waiting.answer.set_result(codes[start : start + len(waiting.items)])
            start += len(waiting.items)
