"""What waits is encoded together, fails alone, and is refused where too much waits."""

from __future__ import annotations

import asyncio
import threading

import numpy as np
import pytest

from hashret.errors import DataError
from hashret.server.batching import Batcher
from hashret.server.problems import ApiError
from hashret.server.service import Pool


class Encoder:
    """Codes are the lengths of the words; waits until it is let go."""

    def __init__(self):
        self.go, self.batches = threading.Event(), []

    def __call__(self, modality, items):
        self.go.wait(10)
        self.batches.append(len(items))
        if "bad" in items:
            raise DataError("a bad item")
        return np.array([[len(item)] for item in items], np.uint8)


def batcher(encoder, **options):
    return Batcher(encoder, **{"size": 4, "wait_ms": 0.0, "max_queue": 8, "seen": lambda n, s: None, **options})


async def encode_one(tested, item):
    return (await tested.encode("text", [item]))[0]


def test_what_waits_is_encoded_together_and_each_gets_its_own(settled):
    async def main():
        encoder = Encoder()
        tested = batcher(encoder)
        tested.start()
        first = asyncio.create_task(encode_one(tested, "a"))
        await settled()  # the first is with the encoder, and the others gather
        others = [asyncio.create_task(encode_one(tested, "x" * n)) for n in range(2, 8)]
        await settled()
        encoder.go.set()
        codes = await asyncio.gather(first, *others)
        await tested.stop()
        return encoder.batches, [code.tolist() for code in codes]

    batches, codes = asyncio.run(main())
    assert codes == [[n] for n in range(1, 8)]
    assert sum(batches) == 7
    assert max(batches) == 4


def answers_to(*requests):
    """What a batcher answers, or raises, to requests (lists of words) that come together."""

    async def main():
        encoder = Encoder()
        encoder.go.set()
        tested = batcher(encoder, wait_ms=50.0)
        tested.start()
        answers = await asyncio.gather(*(tested.encode("text", words) for words in requests), return_exceptions=True)
        await tested.stop()
        return answers

    return asyncio.run(main())


def test_one_bad_item_fails_alone():
    good, bad, other = answers_to(["a"], ["bad"], ["ccc"])
    assert (good.tolist(), other.tolist()) == ([[1]], [[3]])
    assert isinstance(bad, DataError)


def test_items_of_one_request_take_one_place_and_leave_room_between_them(settled):
    """Of 10 items 4 wait at a time; what comes meanwhile is encoded before the rest, and none is refused half-way."""

    async def main():
        encoder = Encoder()
        tested = batcher(encoder, max_queue=2)
        tested.start()
        many = asyncio.create_task(tested.encode("text", ["x" * n for n in range(1, 11)]))
        await settled()  # the first four are with the encoder
        others = [asyncio.create_task(encode_one(tested, "x" * n)) for n in (20, 21)]
        await settled()  # and these fill the queue
        encoder.go.set()
        codes = await asyncio.gather(many, *others)
        await tested.stop()
        return encoder.batches, [code.tolist() for code in codes]

    batches, (many, *others) = asyncio.run(main())
    assert many == [[n] for n in range(1, 11)]
    assert others == [[20], [21]]
    assert batches[0] == 4
    assert (sum(batches), max(batches)) == (12, 4)


def test_a_bad_item_fails_its_own_request_only():
    bad, good = answers_to(["a", "bad"], ["cc"])
    assert isinstance(bad, DataError)
    assert good.tolist() == [[2]]


def test_a_full_queue_is_told_at_once():
    async def main():
        encoder = Encoder()
        tested = batcher(encoder, max_queue=2)
        tasks = [asyncio.create_task(encode_one(tested, "a")) for _ in range(2)]
        await asyncio.sleep(0)
        with pytest.raises(ApiError) as refused:
            await encode_one(tested, "b")
        encoder.go.set()
        tested.start()
        await asyncio.gather(*tasks)
        await tested.stop()
        return refused.value

    error = asyncio.run(main())
    assert (error.status, error.headers) == (503, {"Retry-After": "1"})


def test_a_pool_takes_so_many_and_no_more():
    async def main():
        pool, go = Pool("dig", 1, 2), threading.Event()
        tasks = [asyncio.create_task(pool.run(lambda: go.wait(10))) for _ in range(3)]
        await asyncio.sleep(0)
        with pytest.raises(ApiError, match="3 requests wait to dig"):
            await pool.run(lambda: None)
        go.set()
        await asyncio.gather(*tasks)
        assert await pool.run(lambda: 7) == 7
        pool.close()

    asyncio.run(main())
