"""What is intact of a damaged collection is saved, and items travel through files of other formats."""

from __future__ import annotations

import json
import random
import shutil
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest

from hashret.collection import Collection
from hashret.errors import CorruptError, InputError, MismatchError, MissingExtraError, StorageError


@pytest.fixture
def damaged(path: Path, codes) -> Path:
    """Three blocks of codes: ids 0 … 69,999 in a run, then 1,000 strings; some deleted."""
    with Collection.create(path, n_bits=16, fingerprint="f", model="m") as collection:
        collection.add(codes(70_000))
        collection.add(codes(1000, seed=1), [f"s{i}" for i in range(1000)], [{"n": i} for i in range(1000)])
        collection.delete([1, "s1"])
    return path


def test_an_intact_collection_is_copied(damaged, tmp_path):
    saved = Collection.salvage(damaged, tmp_path / "out")
    assert (saved.count, saved.lost, saved.problems) == (70_998, 0, ())
    with Collection.open(damaged) as old, Collection.open(tmp_path / "out") as new:
        ids = list(old)
        assert list(new) == ids and (new.fingerprint, new.model) == ("f", "m")
        assert new.get(ids).metadata == old.get(ids).metadata
        np.testing.assert_array_equal(new.get(ids).codes, old.get(ids).codes)


def test_an_id_that_died_before_is_not_given_again(path, tmp_path, codes):
    with Collection.create(path, n_bits=16) as collection:
        collection.add(codes(10))
        collection.delete(range(4, 10))
    assert Collection.salvage(path, tmp_path / "out").count == 4
    with Collection.open(tmp_path / "out", mode="w") as new:
        assert list(new.add(codes(1))) == [10]
        new.verify()


def test_damaged_blocks_are_left_out(damaged, tmp_path):
    file = damaged / "codes-000001.bin"
    data = bytearray(file.read_bytes())
    data[64 + 70_000] ^= 1  # in the middle block
    file.write_bytes(data)
    saved = Collection.salvage(damaged, tmp_path / "out")
    assert saved.lost == 32_768 and saved.count == 70_998 - 32_768 and saved.lost_ids[0] == 32_768
    assert "1 blocks" in saved.problems[0]
    with Collection.open(tmp_path / "out") as new:
        assert new.verify().count == saved.count and "s1" not in new and 1 not in new
        assert new.get("s999").metadata == [{"n": 999}]


def test_truncated_codes_and_a_damaged_header_keep_the_whole_blocks(damaged, tmp_path):
    file = damaged / "codes-000001.bin"
    data = bytearray(file.read_bytes())
    data[:64] = bytes(64)
    file.write_bytes(data[: 64 + 2 * 40_000])
    with pytest.raises(CorruptError):
        Collection.open(damaged)
    saved = Collection.salvage(damaged, tmp_path / "out")
    assert saved.count == 32_767 and saved.lost == 70_998 - 32_767
    assert saved.lost_ids[0] == 40_000 and len(saved.lost_ids) == 100


def test_a_damaged_page_of_the_catalogue_costs_its_items_only(damaged, tmp_path):
    file = damaged / "catalogue.sqlite"
    data = bytearray(file.read_bytes())
    page = data.rfind(b'{"n":500}') // 8192
    data[page * 8192 : page * 8192 + 100] = b"\xff" * 100
    file.write_bytes(data)
    with pytest.raises(CorruptError, match="salvage"), Collection.open(damaged) as collection:
        collection.verify()
    saved = Collection.salvage(damaged, tmp_path / "out")
    assert 70_000 < saved.count < 70_998 and saved.problems
    with Collection.open(tmp_path / "out") as new:
        assert new.get("s0").metadata == [{"n": 0}] and new.get("s999").metadata == [{"n": 999}]
        new.verify()


def test_whatever_is_damaged_what_is_saved_is_right(path, tmp_path, codes):
    with Collection.create(path, n_bits=16) as collection:
        collection.add(codes(100))
        collection.add(codes(60, seed=1), [f"s{i}" for i in range(60)], [{"n": i} for i in range(60)])
        ids = list(collection)
        items = collection.get(ids)
        truth = {id: (code.tobytes(), metadata) for id, code, metadata in zip(ids, items.codes, items.metadata)}
    rng, whole = random.Random(3), 0
    originals = {file.name: file.read_bytes() for file in path.iterdir()}
    for turn in range(60):
        name = rng.choice(["catalogue.sqlite", "catalogue.sqlite", "codes-000001.bin"])
        data = bytearray(originals[name])
        for _ in range(rng.choice((1, 3, 20))):
            at = rng.randrange(len(data))
            data[at : at + 16] = rng.randbytes(len(data[at : at + rng.choice((1, 16))]))
        (path / name).write_bytes(data[: len(originals[name])])
        out = tmp_path / f"out{turn}"
        try:
            Collection.salvage(path, out)
        except StorageError:
            assert not out.exists()
        else:
            with Collection.open(out) as saved:
                saved.verify()
                ids = list(saved)
                items = saved.get(ids)
                for id, code, metadata in zip(ids, items.codes, items.metadata):
                    assert truth[id] == (code.tobytes(), metadata)
                whole += len(ids) == len(truth)
        (path / name).write_bytes(originals[name])
    assert 0 < whole < 60


def test_what_cannot_be_salvaged_is_said(damaged, tmp_path):
    with pytest.raises(StorageError, match="no collection"):
        Collection.salvage(tmp_path / "nowhere", tmp_path / "out")
    (damaged / "codes-000001.bin").unlink()
    with pytest.raises(CorruptError, match="its codes file is gone"):
        Collection.salvage(damaged, tmp_path / "out")
    (damaged / "catalogue.sqlite").write_bytes(b"nothing" * 1000)
    with pytest.raises(CorruptError, match="catalogue"):
        Collection.salvage(damaged, tmp_path / "out")
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("suffix", [".npz", ".parquet"])
@pytest.mark.parametrize("kind", ["integers", "strings", "both"])
def test_items_travel(path, tmp_path, codes, suffix, kind):
    if suffix == ".parquet":
        pytest.importorskip("pyarrow")
    ids = {"integers": range(5, 305), "strings": [f"é{i}" for i in range(300)], "both": [*range(299), "299"]}[kind]
    with Collection.create(path, n_bits=16) as collection, Collection.create(tmp_path / "copy", n_bits=16) as copy:
        collection.add(codes(300), ids, [{"n": i, "é": "a\n"} if i % 2 else None for i in range(300)])
        collection.delete(list(ids)[:3])
        target = tmp_path / f"items{suffix}"
        assert collection.export_to(target) == 297 and copy.import_from(target) == 297
        assert list(copy) == list(ids)[3:] and [type(id) for id in copy] == [type(id) for id in ids][3:]
        mine, yours = copy.get(list(copy)), collection.get(list(copy))
        assert mine.metadata == yours.metadata and (mine.codes == yours.codes).all()
        with pytest.raises(InputError, match="already"):
            copy.import_from(target)
        with Collection.create(tmp_path / "wide", n_bits=24) as wide, pytest.raises(InputError, match="16 bits"):
            wide.import_from(target)
    assert sorted(file.suffix for file in tmp_path.iterdir() if file.is_file()) == [suffix]


@pytest.mark.parametrize("suffix", [".npz", ".parquet"])
def test_codes_of_another_model_are_refused(path, tmp_path, codes, suffix):
    if suffix == ".parquet":
        pytest.importorskip("pyarrow")
    target, of_no_model = tmp_path / f"items{suffix}", tmp_path / f"old{suffix}"
    with Collection.create(path, n_bits=16, fingerprint="a" * 64) as collection:
        collection.add(codes(2))
        collection.export_to(target)
    with Collection.create(tmp_path / "b", n_bits=16, fingerprint="b" * 64) as other:
        with pytest.raises(MismatchError, match=rf"items\{suffix} holds codes of another model.*bbbb….*aaaa…"):
            other.import_from(target)
        assert len(other) == 0
    with Collection.create(tmp_path / "none", n_bits=16) as unnamed:  # takes any, as check_model says
        assert unnamed.import_from(target) == 2
        unnamed.export_to(of_no_model)
    with Collection.create(tmp_path / "a", n_bits=16, fingerprint="a" * 64) as same:
        assert same.import_from(target) == 2
        same.delete([0, 1])
        assert same.import_from(of_no_model) == 2


@pytest.mark.parametrize("suffix", [".npz", ".parquet"])
@pytest.mark.parametrize("kept", [0, 9])
def test_an_id_that_died_before_the_export_is_not_given_again(path, tmp_path, codes, suffix, kept):
    if suffix == ".parquet":
        pytest.importorskip("pyarrow")
    with Collection.create(path, n_bits=16) as collection, Collection.create(tmp_path / "copy", n_bits=16) as copy:
        collection.add(codes(10))
        collection.delete(range(kept, 10))
        collection.export_to(tmp_path / f"items{suffix}")
        assert copy.import_from(tmp_path / f"items{suffix}") == kept
        assert list(copy.add(codes(1))) == list(collection.add(codes(1))) == [10]
        copy.verify()
        collection.add(codes(5))
        copy.delete(list(copy))
        copy.import_from(tmp_path / f"items{suffix}")
        assert list(copy.add(codes(1))) == [11]  # the file's is behind by now


def test_an_export_that_was_changed_says_what_to_do(path, tmp_path, codes):
    arrow, parquet = pytest.importorskip("pyarrow"), pytest.importorskip("pyarrow.parquet")
    with Collection.create(path, n_bits=16) as collection:
        collection.add(codes(9))
        collection.export_to(tmp_path / "all.parquet")
        some = parquet.read_table(tmp_path / "all.parquet").filter(arrow.array([True] * 4 + [False] * 5))
        parquet.write_table(some, tmp_path / "some.parquet")
        collection.delete(list(range(9)))
        with pytest.raises(InputError, match=r"does not fit its crc32; .* if you have changed it$"):
            collection.import_from(tmp_path / "some.parquet")
        about = {k: v for k, v in json.loads(some.schema.metadata[b"hashret"]).items() if k != "crc32"}
        parquet.write_table(some.replace_schema_metadata({"hashret": json.dumps(about)}), tmp_path / "some.parquet")
        assert collection.import_from(tmp_path / "some.parquet") == 4


def test_foreign_parquet_files_are_refused_by_a_sentence(path, tmp_path, codes):
    arrow, parquet = pytest.importorskip("pyarrow"), pytest.importorskip("pyarrow.parquet")

    def written(lengths: list[int], about: str = "{}") -> Path:
        schema = arrow.schema(
            [("id", arrow.int64()), ("code", arrow.binary()), ("metadata", arrow.string())], metadata={"hashret": about}
        )
        columns = [range(len(lengths)), [bytes(length) for length in lengths], [None] * len(lengths)]
        parquet.write_table(arrow.table(columns, schema=schema), tmp_path / "foreign.parquet")
        return tmp_path / "foreign.parquet"

    with Collection.create(path, n_bits=64) as collection:
        with pytest.raises(InputError, match="a code of 7 bytes, and codes of 64 bits are 8"):
            collection.import_from(written([7, 9]))
        for about in ("[]", '{"next_id": "3"}', '{"next_id": 1e400}'):
            with pytest.raises(InputError, match="cannot be read"):
                collection.import_from(written([8, 8], about))
        assert len(collection) == 0
        assert collection.import_from(written([8, 8], f'{{"next_id": {10**30}}}')) == 2
        with pytest.raises(InputError, match="automatic ids have reached"):
            collection.add(codes(1, n_bits=64))


@pytest.mark.parametrize(
    "metadata", [[{"a": 1}] * 2, [1, 2], ["[" * 100_000, None], ['{"a":' + "9" * 5000 + "}", "{}"]]
)
def test_metadata_of_a_file_from_elsewhere_that_are_no_json_are_refused(path, tmp_path, metadata):
    arrow, parquet = pytest.importorskip("pyarrow"), pytest.importorskip("pyarrow.parquet")
    parquet.write_table(
        arrow.table({"id": [1, 2], "code": [b"ab", b"cd"], "metadata": metadata}), tmp_path / "x.parquet"
    )
    with Collection.create(path, n_bits=16) as collection:
        with pytest.raises(InputError, match=r"x\.parquet has metadata that is no JSON"):
            collection.import_from(tmp_path / "x.parquet")
        assert len(collection) == 0


def test_parts_of_a_file_from_elsewhere_that_cannot_be_read_are_refused(path, tmp_path, codes):
    arrow, parquet = pytest.importorskip("pyarrow"), pytest.importorskip("pyarrow.parquet")
    deep = np.frombuffer(("[" * 100_000 + "\n1").encode(), np.uint8)
    np.savez(tmp_path / "deep.npz", codes=codes(2), n_bits=16, ids_json=deep)
    np.savez(tmp_path / "endless.npz", codes=codes(2), n_bits=np.inf, ids=[1, 2])
    np.savez(tmp_path / "damaged.npz", codes=codes(2), n_bits=16, ids=[1, 2])
    content = bytearray((tmp_path / "damaged.npz").read_bytes())
    content[content.index(b"PK\x01\x02") + 8] |= 1  # as if it had a password
    (tmp_path / "damaged.npz").write_bytes(content)
    table = arrow.table({"id": [1, 2], "code": [b"ab", b"cd"], "metadata": ["{}", "{}"]})
    for name, about in (("deep", "[" * 100_000), ("odd", '{"ids": "json"}')):
        parquet.write_table(table.replace_schema_metadata({"hashret": about}), tmp_path / f"{name}.parquet")
    with Collection.create(path, n_bits=16) as collection:
        for name in ("deep.npz", "endless.npz", "damaged.npz", "deep.parquet", "odd.parquet"):
            with pytest.raises(InputError, match="cannot be read as an exported collection"):
                collection.import_from(tmp_path / name)
        assert len(collection) == 0


@pytest.mark.parametrize("shape", ["(9999999999999, 2)", "((99999999, 2)"])
def test_a_header_that_no_array_can_have_is_refused(path, tmp_path, codes, shape):
    np.save(tmp_path / "x.npy", codes(99))
    content = (tmp_path / "x.npy").read_bytes()
    (tmp_path / "x.npy").write_bytes(content.replace(b"(99, 2), }" + b" " * (len(shape) - 7), f"{shape}, }}".encode()))
    with Collection.create(path, n_bits=16) as collection:
        with pytest.raises(InputError, match="cannot be read as an array of codes"):
            collection.import_from(tmp_path / "x.npy")
        assert len(collection) == 0


def test_one_long_id_does_not_make_the_others_long(path, tmp_path, codes):
    with Collection.create(path, n_bits=16) as collection:
        collection.add(codes(2000), ["x" * 5000, *(f"é{i}" for i in range(1999))])
        collection.export_to(tmp_path / "items.npz")
        with Collection.create(tmp_path / "copy", n_bits=16) as copy:
            copy.import_from(tmp_path / "items.npz")
            assert list(copy) == list(collection)
    assert (tmp_path / "items.npz").stat().st_size < 100_000


def test_ids_as_the_first_version_exported_them_are_read(path, tmp_path, codes):
    for ids in ({"ids": np.array(["a", "bc"])}, {"ids_json": np.array(['"a"', "7"])}):
        np.savez(tmp_path / "items.npz", codes=codes(2), n_bits=16, **ids)
        with Collection.create(path, n_bits=16) as collection:
            collection.import_from(tmp_path / "items.npz")
            assert list(collection) == (["a", "bc"] if "ids" in ids else ["a", 7])
        shutil.rmtree(path)


def test_threads_may_export_to_one_file(path, tmp_path, codes):
    with Collection.create(path, n_bits=16) as collection:
        collection.add(codes(3000), [f"s{i}" for i in range(3000)])
        with ThreadPoolExecutor(3) as threads:
            counts = list(threads.map(lambda _: collection.export_to(tmp_path / "items.npz"), range(30)))
        assert counts == [3000] * 30
    assert {file.name for file in tmp_path.iterdir()} == {path.name, "items.npz"}


@pytest.mark.parametrize("suffix", [".npz", ".parquet"])
@pytest.mark.parametrize("known", [50_005, "50005"])
def test_a_file_with_a_known_id_far_behind_stores_nothing(path, tmp_path, codes, suffix, known):
    if suffix == ".parquet":
        pytest.importorskip("pyarrow")
    ids = range(50_010) if known == 50_005 else [f"{i}" for i in range(50_010)]
    target = tmp_path / f"items{suffix}"
    with Collection.create(tmp_path / "large", n_bits=16) as large:
        large.add(codes(50_010), ids)
        large.export_to(target)
    with Collection.create(path, n_bits=16) as collection:
        collection.add(codes(1), [known])
        with pytest.raises(InputError, match="already; nothing was stored"):
            collection.import_from(target)
        assert list(collection) == [known]
        collection.delete([known])
        assert collection.import_from(target) == len(collection) == 50_010


def test_metadata_that_are_no_json_store_nothing(path, tmp_path, codes):
    lines = np.frombuffer(b'{"n": 1}\n{"n": ', np.uint8)
    np.savez(tmp_path / "bad.npz", codes=codes(2), ids=np.arange(2), n_bits=16, metadata_json=lines)
    with Collection.create(path, n_bits=16) as collection:
        with pytest.raises(InputError, match="no JSON"):
            collection.import_from(tmp_path / "bad.npz")
        assert len(collection) == 0


def test_codes_alone_travel_as_npy(path, tmp_path, codes):
    with Collection.create(path, n_bits=16) as collection:
        collection.add(codes(100), [f"s{i}" for i in range(100)])
        assert collection.export_to(tmp_path / "codes.npy") == 100
        np.testing.assert_array_equal(np.load(tmp_path / "codes.npy"), codes(100))
        assert collection.import_from(tmp_path / "codes.npy") == 100 and 99 in collection


def test_an_empty_collection_travels(path, tmp_path):
    with Collection.create(path, n_bits=16) as collection:
        for suffix in (".npz", ".npy"):
            assert collection.export_to(tmp_path / f"none{suffix}") == 0
            assert collection.import_from(tmp_path / f"none{suffix}") == 0


def test_files_that_cannot_travel_are_refused(path, tmp_path, codes, monkeypatch):
    with Collection.create(path, n_bits=16) as collection:
        with pytest.raises(InputError, match=r"\.csv"):
            collection.export_to(tmp_path / "items.csv")
        with pytest.raises(InputError, match="no file"):
            collection.import_from(tmp_path / "items.npz")
        with pytest.raises(StorageError, match="cannot be written"):
            collection.export_to(tmp_path / "no" / "items.npz")
        for suffix in (".npz", ".npy"):
            (tmp_path / f"bad{suffix}").write_bytes(b"PK nothing")
            with pytest.raises(InputError, match="cannot be read"):
                collection.import_from(tmp_path / f"bad{suffix}")
        monkeypatch.setitem(sys.modules, "pyarrow", None)
        with pytest.raises(MissingExtraError, match=r"pip install 'hashret\[parquet\]'"):
            collection.export_to(tmp_path / "items.parquet")
        assert len(collection) == 0


@pytest.mark.parametrize(
    ("arrays", "said"),
    [
        ({"codes": np.uint8(3), "ids": np.arange(1), "n_bits": 16}, "two dimensions"),
        ({"codes": np.zeros((2, 2), np.uint8), "ids": np.int64(1), "n_bits": 16}, "ids of one"),
        ({"codes": np.zeros((2, 2), np.uint8), "ids": np.arange(2), "n_bits": np.array([16, 16])}, "cannot be read"),
        ({"codes": np.zeros((1, 2), np.uint8), "ids_json": np.arange(1), "n_bits": 16}, "cannot be read"),
    ],
)
def test_arrays_of_other_shapes_are_refused(path, tmp_path, arrays, said):
    np.savez(tmp_path / "bad.npz", **arrays)
    with Collection.create(path, n_bits=16) as collection, pytest.raises(InputError, match=said):
        collection.import_from(tmp_path / "bad.npz")


def test_an_array_without_dimensions_is_refused(path, tmp_path):
    np.save(tmp_path / "bad.npy", np.uint8(3))
    with Collection.create(path, n_bits=16) as collection, pytest.raises(InputError, match=r"shape \(N, 2\)"):
        collection.import_from(tmp_path / "bad.npy")


def test_an_archive_by_the_name_of_an_array_is_refused(path, tmp_path):
    with (tmp_path / "bad.npy").open("wb") as file:
        np.savez(file, codes=np.zeros((2, 2), np.uint8))
    with Collection.create(path, n_bits=16) as collection:
        with pytest.raises(InputError, match="several arrays"):
            collection.import_from(tmp_path / "bad.npy")
        (tmp_path / "bad.npy").write_bytes((tmp_path / "bad.npy").read_bytes()[:100])
        with pytest.raises(InputError, match="cannot be read as an array"):
            collection.import_from(tmp_path / "bad.npy")


def test_a_file_is_no_place_to_export_to(path, tmp_path, codes):
    (tmp_path / "file.txt").write_text("x")
    with Collection.create(path, n_bits=16) as collection, pytest.raises(StorageError, match="cannot be written"):
        collection.export_to(tmp_path / "file.txt" / "items.npz")
