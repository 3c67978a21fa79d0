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
    item: Any
    answer: asyncio.Future[np.ndarray]


class Batcher:
    """Encodes one item a call, and many at a time.

    Args:
        encode: modality and n items to (n, n_bytes) uint8; runs in one thread of its own.
        size: items of one call.
        wait_ms: how long the first item waits for more.
        max_queue: items that may wait; beyond them a call is refused.
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
        """Items in the queue."""
        return self._queue.qsize()

    async def encode(self, modality: str, item: Any) -> np.ndarray:
        """(n_bytes,) uint8: the code of one item.

        Raises:
            ApiError: too many wait.
            HashretError: the item cannot be encoded.
        """
        waiting = _Waiting(modality, item, asyncio.get_running_loop().create_future())
        try:
            self._queue.put_nowait(waiting)
        except asyncio.QueueFull:
            raise busy(
                f"{self._queue.maxsize} queries wait for the encoder, which is as many as may; try again in a second"
            ) from None
        return await waiting.answer

    async def run(self, function: Callable[[], Any]) -> Any:
        """Call ``function`` in the encoder's thread."""
        return await asyncio.get_running_loop().run_in_executor(self._thread, function)

    async def _work(self) -> None:
        ended = False
        while not ended:
            first = await self._queue.get()
            if first is None:
                return
            batch, ended = await self._collect(first)
            for modality in dict.fromkeys(waiting.modality for waiting in batch):
                await self._answer(modality, [waiting for waiting in batch if waiting.modality == modality])

    async def _collect(self, first: _Waiting) -> tuple[list[_Waiting], bool]:
        """A batch that begins with ``first``, and whether it is the last one."""
        batch = [first]
        loop = asyncio.get_running_loop()
        end = loop.time() + self._wait_s
        while len(batch) < self._size:
            try:
                if self._queue.empty():
                    async with asyncio.timeout_at(end):
                        following = await self._queue.get()
                else:
                    following = self._queue.get_nowait()
            except TimeoutError:
                break
            if following is None:
                return batch, True
            batch.append(following)
        return batch, False

    async def _answer(self, modality: str, batch: list[_Waiting]) -> None:
        batch = [waiting for waiting in batch if not waiting.answer.done()]  # who gave up is not worked for
        if not batch:
            return
        loop = asyncio.get_running_loop()
        started = loop.time()
        try:
            codes = await self.run(lambda: self._encode(modality, [waiting.item for waiting in batch]))
        except Exception as error:
            if len(batch) > 1:  # one bad item is not to fail its neighbours
                for waiting in batch:
                    await self._answer(modality, [waiting])
                return
            for waiting in batch:
                if not waiting.answer.done():
                    waiting.answer.set_exception(error)
            return
        self._seen(len(batch), loop.time() - started)
        for waiting, code in zip(batch, codes):
            if not waiting.answer.done():
                waiting.answer.set_result(code)
