"""A collection: a directory that keeps codes, their ids and their metadata, and loses nothing that it acknowledged.

    photos.hashret/
    ├── catalogue.sqlite        ids, metadata, tombstones, checksums, and the committed number of rows
    ├── catalogue.sqlite-wal    SQLite's log while somebody has the collection open (-shm beside it)
    ├── codes-000001.bin        packed codes, append-only; the number is the generation, one more a compaction
    └── lock                    the writer's pid; the lock itself is the operating system's and dies with the process

    codes-000001.bin, all numbers little-endian
    offset  bytes
         0      8   magic  89 48 53 48 52 45 54 0A   ("\\x89HSHRET\\n")
         8      4   version of the format, now 1
        12      4   n_bits
        16      4   rows of a block (a block holds about 64 KB of codes)
        20      4   generation
        24     16   the collection's own random number: codes of another collection are refused
        40     20   zero
        60      4   CRC-32 of bytes 0 to 59
        64          row 0, row 1, …, each (n_bits + 7) // 8 bytes; what lies beyond the committed rows is not read

    catalogue.sqlite, application_id 0x48534852 ("HSHR"), user_version = version of the format
    about       key, value, crc             n_bits, number of the collection, fingerprint, model, credits
    state       one row: commits, generation, n_rows, n_live, next_id, crc
    items       row, id, metadata (JSON or NULL), crc     live rows only; a unique index on id
    runs        row, n, id, crc             n rows from `row` on with the integer ids id, id + 1, …, and no metadata
    tombstones  seq, rows (int64, little-endian), crc     the rows that died, one entry a deletion
    blocks      block, crc                  CRC-32 of the committed codes of each block
    index "field:" + the field's name in hexadecimal: json_extract of the field over items, on request

Every row of 0…n_rows-1 is exactly one of: in ``items``; in a run and not dead; dead.

A commit is: insert into the catalogue's open transaction, append the codes, fsync them, commit the transaction
(which fsyncs SQLite's log). A process that dies before the last step leaves codes beyond the committed rows, which
nobody reads and the next writer cuts off. A commit that fails or dies at its fsync may lie whole in the log, where
SQLite would find it after a kill: before codes are cut off, or a generation is removed that was not committed, another
commit is written over it; where that fails too, nothing is cut off and no change is taken. A block's checksum is
carried on from its last value, so appending reads nothing. A compaction writes the next generation's codes file,
fsyncs it, renumbers the catalogue in one transaction, and then removes the old file; whoever mapped the old one keeps
it. One writer, many readers: a reader's call runs in one SQLite snapshot and so sees one committed state. Damage in a
log that a killed writer left ends the log there, as SQLite defines it: an earlier committed state is seen. All other
damage is found by ``verify``.

Must not know of models beyond their fingerprint, and never imports torch.
"""

from __future__ import annotations

from hashret.collection._check import check_items
from hashret.collection.collection import Collection
from hashret.collection.results import (
    CollectionAsymmetricHits,
    CollectionHits,
    CollectionInfo,
    CollectionRangeHits,
    Items,
    Salvaged,
    Verified,
)

__all__ = [
    "Collection",
    "CollectionAsymmetricHits",
    "CollectionHits",
    "CollectionInfo",
    "CollectionRangeHits",
    "Items",
    "Salvaged",
    "Verified",
    "check_items",
]
