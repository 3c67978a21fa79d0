"""The C extension: every SIMD level against the plain truth, and what happens where it is missing."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest

from hashret import kernels
from hashret.errors import InputError, MissingExtraError
from hashret.kernels import _numpy as plain
from hashret.kernels import native

ROOT = Path(__file__).resolve().parents[2]
BUILT = native.available()
needs_native = pytest.mark.skipif(not BUILT, reason="the C extension was not built here")


@pytest.fixture(params=native.levels() if BUILT else ())
def level(request):
    """Every SIMD level of this machine, one after the other."""
    before = native.level()
    native.use_level(request.param)
    yield request.param
    native.use_level(before)


def agrees(codes, queries, k, truth, *, n_bits, mask=None, radius=None, threads=1):
    got = native.search(
        codes, queries, min(k, len(codes)), n_bits=n_bits, rows_mask=mask, radius=radius, threads=threads
    )
    for a, b in zip(got, truth(codes, queries, min(k, len(codes)), mask=mask, radius=radius)):
        np.testing.assert_array_equal(a, b)
    if radius is not None:
        found = native.range_search(codes, queries, radius, n_bits=n_bits, rows_mask=mask, threads=threads)
        for a, b in zip(found, truth.ranged(codes, queries, radius, mask=mask)):
            np.testing.assert_array_equal(a, b)


@needs_native
@pytest.mark.parametrize("n_bits", [1, 13, 16, 60, 64, 100, 120, 128, 192, 240, 250, 256, 300, 576, 4096])
@pytest.mark.parametrize("queries", [1, 3, 40])
def test_every_level_and_width(level, truth, make_codes, n_bits, queries):
    rng = np.random.default_rng(n_bits)
    codes = make_codes(rng, 700 if n_bits < 1000 else 300, n_bits)
    agrees(codes, make_codes(rng, queries, n_bits), 10, truth, n_bits=n_bits)


@needs_native
@pytest.mark.parametrize("n_bits", [16, 64, 128, 200, 320])
def test_every_radius(level, truth, make_codes, n_bits):
    rng = np.random.default_rng(n_bits)
    codes = make_codes(rng, 530, n_bits)
    queries = np.concatenate([codes[:20], make_codes(rng, 20, n_bits)])
    wanted = rng.random(len(codes)) < 0.7
    for radius in range(n_bits + 1):
        mask = wanted if radius % 3 else None
        found = native.range_search(codes, queries, radius, n_bits=n_bits, rows_mask=mask, threads=1)
        for a, b in zip(found, truth.ranged(codes, queries, radius, mask=mask)):
            np.testing.assert_array_equal(a, b)


@needs_native
@pytest.mark.parametrize("n_bits", [64, 128, 256])
@pytest.mark.parametrize("count", [63, 64, 511, 512, 513, 8191, 8193])
def test_rows_at_the_edges_of_blocks(level, truth, make_codes, n_bits, count):
    rng = np.random.default_rng(count)
    codes, queries = make_codes(rng, count, n_bits), make_codes(rng, 35, n_bits)
    queries[0] = codes[-1]
    agrees(codes, queries[:1], 3, truth, n_bits=n_bits)
    agrees(codes, queries, 3, truth, n_bits=n_bits)


@needs_native
@pytest.mark.parametrize("n_bits", [64, 128, 200, 256])
def test_batches_larger_than_a_tile(level, truth, make_codes, n_bits):
    rng = np.random.default_rng(n_bits)
    agrees(make_codes(rng, 600, n_bits), make_codes(rng, 1100, n_bits), 4, truth, n_bits=n_bits)


def random_cases(seeds, truth, make_codes):
    for seed in seeds:
        rng = np.random.default_rng(seed)
        n_bits = int(rng.choice([8, 30, 64, 64, 96, 128, 128, 200, 256, 256, 320, 1000, 4096, rng.integers(1, 520)]))
        codes = make_codes(rng, int(rng.integers(1, 1500)), n_bits, str(rng.choice(["random", "duplicates", "near"])))
        queries = make_codes(rng, int(rng.choice([1, 2, 5, 34, 101])), n_bits)
        queries[0] = codes[rng.integers(len(codes))]
        mask = rng.random(len(codes)) < rng.choice([0.0, 0.01, 0.5, 1.0]) if rng.random() < 0.5 else None
        radius = int(rng.integers(0, n_bits + 1)) if rng.random() < 0.5 else None
        agrees(codes, queries, int(rng.choice([1, 10, 200])), truth, n_bits=n_bits, mask=mask, radius=radius)


@needs_native
def test_random_cases_at_every_level(level, truth, make_codes):
    random_cases(range(60), truth, make_codes)


@needs_native
@pytest.mark.slow
def test_random_cases_at_every_level_long(level, truth, make_codes):
    random_cases(range(10_000), truth, make_codes)


@needs_native
@pytest.mark.parametrize("queries", [1, 7, 40])
def test_threads_share_the_rows(level, truth, make_codes, queries):
    rng = np.random.default_rng(11)
    codes, batch = make_codes(rng, {1: 270_000, 7: 40_000, 40: 33_000}[queries], 512), make_codes(rng, queries, 512)
    batch[0] = codes[19_000]  # 16 MB of looks and more: five threads are worth it
    mask = rng.random(len(codes)) < 0.3
    for threads in (2, 100):
        agrees(codes, batch, 20, truth, n_bits=512, threads=threads)
    agrees(codes, batch[:3], 20, truth, n_bits=512, mask=mask, radius=250, threads=3)


def agrees_with_numpy(codes, queries, k, *, n_bits, radius=None, threads=2):
    """For more queries than the plain truth has time for."""
    options = {"n_bits": n_bits, "rows_mask": None, "threads": threads}
    for a, b in zip(*(each.search(codes, queries, k, radius=radius, **options) for each in (native, plain))):
        np.testing.assert_array_equal(a, b)
    if radius is not None:
        for a, b in zip(*(each.range_search(codes, queries, radius, **options) for each in (native, plain))):
            np.testing.assert_array_equal(a, b)


@needs_native
@pytest.mark.parametrize("kind", ["random", "near", "duplicates"])
@pytest.mark.parametrize("n_bits", [60, 128, 256])
def test_threads_with_queries_of_their_own(level, make_codes, n_bits, kind):
    rng = np.random.default_rng(n_bits)
    codes, queries = make_codes(rng, 9000, n_bits, kind), make_codes(rng, 530, n_bits)
    queries[::3] = codes[rng.integers(0, len(codes), len(queries[::3]))]
    for k in (9, 300):  # of 300 the search begins with a bound that a sample gives
        agrees_with_numpy(codes, queries, k, n_bits=n_bits)
    agrees_with_numpy(codes, queries, 100, n_bits=n_bits, radius=n_bits // 3)


def sampled(rows):
    """The rows that csrc/sample.c takes for 100 hits of so many rows: one in each step."""
    source = (Path(kernels.__file__).parent / "csrc" / "sample.c").read_text()
    assert "SHARE = 8," in source and "(i * step + (spread >> 33) % step)" in source, "it takes others by now"
    spread, step = 0, 8
    for i in range(rows // step):
        spread = (spread * 6364136223846793005 + 1442695040888963407) % 2**64
        yield i * step + (spread >> 33) % step


@needs_native
@pytest.mark.parametrize("deceived", [5, None], ids=["few", "half"])
@pytest.mark.parametrize(
    ("queries", "threads", "n_bits"), [(64, 1, 64), (70, 2, 128), (530, 2, 60), (1100, 3, 64), (1100, 2, 256)]
)
def test_a_sample_that_deceives_costs_no_hit(level, queries, threads, n_bits, deceived):
    """All rows that are near are in the sample: twice as many as promise 100 hits at their distance, but only 63."""
    rows, width = 20_000, (n_bits + 7) // 8
    codes = np.full((rows, width), 0xFF, np.uint8)
    codes[:, width - 2] = np.random.default_rng(0).integers(0, 256, rows)
    codes[list(sampled(rows))[::40]] = 0
    batch = np.full((queries, width), 0xFF, np.uint8)
    batch[: deceived or queries : 2 if deceived is None else 1] = 0
    for each in (codes, batch):
        each[:, -1] &= 0xFF << (8 * width - n_bits) & 0xFF  # bits that fill up the last byte are 0
    batch = batch[::-1].copy()  # the deceived ones are in the last part and tile, too
    agrees_with_numpy(codes, batch, 100, n_bits=n_bits, threads=threads)
    near = native.search(codes, batch[-1:], 100, n_bits=n_bits, rows_mask=None, radius=None, threads=1)[0][0]
    assert (near == 0).sum() == 63 and near[63] >= n_bits - 8  # the others are found beyond the bound


@needs_native
@pytest.mark.skipif(not Path("/proc/self/task").exists(), reason="nothing here lists threads")
@pytest.mark.parametrize(
    ("rows", "queries", "threads"), [(1000, 1, 1), (270_000, 1, 5), (33_000, 40, 5), (33_000, 40, 3)]
)
def test_as_many_threads_as_a_search_is_worth(rows, queries, threads):
    code = f"""
import os
import numpy as np
from hashret.kernels import native

codes = np.zeros(({rows}, 64), np.uint8)
before = len(os.listdir("/proc/self/task"))
native.search(codes, codes[:{queries}], 9, n_bits=512, rows_mask=None, radius=None, threads={threads})
print(len(os.listdir("/proc/self/task")) - before + 1)
"""
    assert run(code).stdout == f"{threads}\n"


@needs_native
def test_searches_at_once_share_the_threads(truth, make_codes):
    """More searches than there are cores, many with more threads than that, while others end theirs."""
    rng = np.random.default_rng(12)
    codes, queries = make_codes(rng, 270_000, 512), make_codes(rng, 24, 512)
    expected = truth(codes, queries, 5)

    def search(first):
        found = [
            native.search(codes, queries[at : at + 1], 5, n_bits=512, rows_mask=None, radius=None, threads=1 + at % 7)
            for at in range(first, 24, 8)
        ]
        return [np.concatenate(parts) for parts in zip(*found)]

    with ThreadPoolExecutor(8) as pool:
        for first, (distances, rows) in enumerate(pool.map(search, range(8))):
            np.testing.assert_array_equal(distances, expected[0][first::8])
            np.testing.assert_array_equal(rows, expected[1][first::8])


@needs_native
@pytest.mark.skipif(not hasattr(os, "fork"), reason="there is no fork here")
def test_a_fork_searches_with_threads_of_its_own(make_codes):
    """The parent's do not survive the fork; the child neither hangs nor answers otherwise, nor does its own child.

    The extension is loaded a second time before, under another name, which must not watch forks twice.
    """
    done = run(
        """
import importlib.util, os, signal, sys
import numpy as np
from hashret.kernels import native

spec = importlib.util.spec_from_file_location("again._native", native.extension().__file__)
spec.loader.exec_module(importlib.util.module_from_spec(spec))
signal.alarm(60)  # a search that hangs ends here
codes = np.random.default_rng(1).integers(0, 256, (270_000, 64), np.uint8)

def search():
    found = native.search(codes, codes[:1], 9, n_bits=512, rows_mask=None, radius=None, threads=4)
    return [part.tolist() for part in found]

def generations(left, expected):
    if left == 0:
        return 0
    child = os.fork()
    if child == 0:
        signal.alarm(60)
        same = search() == expected
        os._exit(generations(left - 1, expected) if same else 3)
    again = search() == expected  # while the child searches
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) if again else 4

sys.exit(generations(3, search()))
"""
    )
    assert done.returncode == 0, (done.returncode, done.stderr)


@needs_native
@pytest.mark.parametrize("n_bits", [64, 100, 256])
def test_masks_that_differ_from_chunk_to_chunk(level, truth, make_codes, n_bits):
    """The first rows of a chunk say whether single rows are looked at, and may be unlike the others."""
    rng = np.random.default_rng(14)
    codes, queries = make_codes(rng, 20_000, n_bits), make_codes(rng, 2, n_bits)
    at, share = np.arange(len(codes)), rng.random(len(codes))
    within = at % 8192
    for mask in (share < 0.01, within < 100, within >= 128, within == 8000, share < at / 20_000, at == 19_999):
        agrees(codes, queries[:1], 7, truth, n_bits=n_bits, mask=mask, radius=n_bits // 2)
        agrees(codes, queries, 400, truth, n_bits=n_bits, mask=mask)


@needs_native
def test_masks_of_any_bytes(level, truth, make_codes):
    """What is not 0 is wanted, as numpy has it, also where a mask is a view of other bytes."""
    rng = np.random.default_rng(15)
    codes, queries = make_codes(rng, 1000, 64), make_codes(rng, 30, 64)
    for share in (0.01, 0.5):
        mask = (rng.integers(1, 256, 1000, np.uint8) * (rng.random(1000) < share)).view(np.bool_)
        for some in (queries[:1], queries):
            agrees(codes, some, 7, truth, n_bits=64, mask=mask)


@needs_native
@pytest.mark.parametrize("share", [0.1, 0.9, 1.0])
def test_masks_of_wide_codes(level, truth, make_codes, share):
    rng = np.random.default_rng(16)
    codes, queries = make_codes(rng, 8300, 4096), make_codes(rng, 1, 4096)
    agrees(codes, queries, 5, truth, n_bits=4096, mask=rng.random(len(codes)) < share)


@needs_native
@pytest.mark.parametrize("n_bits", [64, 128, 200, 256])
def test_masks_of_many_rows(truth, make_codes, n_bits):
    """Long masks are judged by a sample, which may be far from the truth."""
    rng = np.random.default_rng(13)
    codes, queries = make_codes(rng, 130_000, n_bits), make_codes(rng, 3, n_bits)
    at = np.arange(len(codes))
    for mask in (rng.random(len(at)) < 0.05, rng.random(len(at)) < 0.001, at > 129_000, at % 997 == 0, at % 997 != 0):
        agrees(codes, queries, 7, truth, n_bits=n_bits, mask=mask, threads=1)


@needs_native
@pytest.mark.parametrize("n_bits", [8, 64, 256])
def test_the_whole_range(level, truth, make_codes, n_bits):
    """Radius 0 and n_bits, where nothing or everything is near, and distances of exactly n_bits."""
    rng = np.random.default_rng(2)
    codes = make_codes(rng, 600, n_bits, "extreme")
    queries = np.concatenate([codes[:20], ~codes[:20]])
    for radius in (0, n_bits - 1, n_bits):
        agrees(codes, queries, 5, truth, n_bits=n_bits, radius=radius)
        agrees(codes, queries[:1], 600, truth, n_bits=n_bits, radius=radius)


@needs_native
def test_buffers_that_do_not_fit_are_refused():
    module = native.extension()
    codes, out = np.zeros((4, 8), np.uint8), (np.zeros((1, 2), np.int32), np.zeros((1, 2), np.int64))
    module.search(codes, codes[:1], 2, None, 64, -1, 1, *out)
    for arguments in (
        (codes, codes[:1], 3, None, 64, -1, 1, *out),
        (codes, codes[:1], 2, np.ones(3, bool), 64, -1, 1, *out),
        (codes.ravel()[:9].copy(), codes[:1], 2, None, 64, -1, 1, *out),
        (codes, codes[:1], 2, None, 0, -1, 1, *out),
        (codes, codes[:1], 2, None, 5000, -1, 1, *out),
        (codes, codes[:1], 0, None, 64, -1, 1, *out),
    ):
        with pytest.raises(ValueError):
            module.search(*arguments)


def run(code, **environment):
    command, environment = [sys.executable, "-c", code], os.environ | environment
    return subprocess.run(command, env=environment, cwd=ROOT, capture_output=True, text=True, timeout=120)


@needs_native
def test_the_environment_forces_a_level():
    for name in native.levels():
        done = run("from hashret.kernels import native; print(native.level())", HASHRET_SIMD=name)
        assert done.stdout.strip() == name, done.stderr
    done = run("from hashret.kernels import native; native.level()", HASHRET_SIMD="mmx")
    assert "there is no SIMD level 'mmx' on this machine" in done.stderr


@needs_native
def test_an_unknown_level_is_refused():
    with pytest.raises(InputError, match="no SIMD level 'mmx'"):
        native.use_level("mmx")


@pytest.mark.parametrize("what", ["search", "range_search"])
def test_a_long_search_ends_between_two_slices_of_its_queries(what, monkeypatch):
    codes, calls, extension = np.arange(80, dtype=np.uint8).reshape(10, 8), [], native.extension()

    class Interrupted:
        def __getattr__(self, name):
            def call(*arguments):
                calls.append(name)
                if len(calls) == 2:
                    signal.raise_signal(signal.SIGINT)
                return getattr(extension, name)(*arguments)

            return call

    monkeypatch.setattr(native, "_SLICE_BYTES", 1)
    monkeypatch.setattr(native, "_SLICE", 3)
    monkeypatch.setattr(native, "extension", Interrupted)
    before = signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell's background jobs ignore it
    try:
        with pytest.raises(KeyboardInterrupt):
            getattr(kernels, what)(codes, codes, 2, n_bits=64, backend="native")
    finally:
        signal.signal(signal.SIGINT, before)
    assert calls == [what] * 2


def test_without_the_extension_other_back_ends_search(monkeypatch):
    monkeypatch.setitem(sys.modules, "hashret.kernels._native", None)
    monkeypatch.setattr(native, "_loaded", None)
    monkeypatch.setattr(kernels, "_fastest", kernels._fastest.__wrapped__)
    assert not native.available()
    assert "native" not in kernels.available_backends()
    codes = np.arange(32, dtype=np.uint8).reshape(4, 8)
    assert kernels.search(codes, codes[2], 1, n_bits=64).rows.tolist() == [[2]]
    with pytest.raises(MissingExtraError, match="C compiler"):
        native.extension()
    with pytest.raises(InputError, match="cannot run here"):
        kernels.search(codes, codes[2], 1, n_bits=64, backend="native")


def test_a_build_without_a_compiler_succeeds_without_the_extension(tmp_path):
    for name in ("setup.py", "pyproject.toml"):
        shutil.copy(ROOT / name, tmp_path)
    shutil.copytree(ROOT / "hashret/kernels/csrc", tmp_path / "hashret/kernels/csrc")
    for name in ("README.md", "LICENSE"):
        (tmp_path / name).touch()
    done = subprocess.run(
        [sys.executable, "setup.py", "build_ext", "--inplace"],
        cwd=tmp_path,
        env=os.environ | {"CC": "/nonexistent/compiler"},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    assert "hashret.kernels._native" in done.stderr + done.stdout
    assert not list((tmp_path / "hashret/kernels").glob("_native*"))
