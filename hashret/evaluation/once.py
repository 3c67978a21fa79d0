"""The test split is read once for a run: a marker file in its directory, and a refusal the second time.

    RUN/test-read.json   [{"when", "command", "checksum"}, …]   one entry for each time it was read

Choosing by test figures is the field's commonest leak. Knows a directory, and nothing of what is measured.
"""

from __future__ import annotations

import dataclasses
import json
import shlex
import sys
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from hashret._files import write_whole
from hashret.errors import CorruptError, InputError, StorageError


@dataclass(frozen=True)
class Reading:
    """One reading of a test split: when (UTC, ISO 8601), by which command, of which data or protocol."""

    when: str
    command: str
    checksum: str


@dataclass(frozen=True)
class TestOnce:
    """The guard of one run directory.

    Attributes:
        run: the directory.
    """

    __test__ = False  # pytest would take the name for a test

    run: Path

    def claim(self, *, checksum: str, again: bool = False, command: str | None = None) -> None:
        """Record that the test split is read now; call it before looking.

        Args:
            checksum: of the protocol, or fingerprint of the data set, that is read.
            again: read it once more, on the record.
            command: what reads it; the command line by default.

        Raises:
            InputError: it was read before, and ``again`` is false.
            CorruptError: the record is damaged.
            StorageError: the record cannot be written.
        """
        entry = Reading(datetime.now(UTC).isoformat(timespec="seconds"), command or shlex.join(sys.argv), checksum)
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            with self.path.open("x", encoding="utf-8") as file:  # of two processes, one alone creates it
                file.write(_text(entry))
            return
        except FileExistsError:
            if not again:
                self.check()
        except OSError as error:
            raise StorageError(f"the reading of the test split cannot be recorded: {error}") from error
        write_whole(self.path, _text(*self.readings(), entry))

    def check(self) -> None:
        """Refuse a second reading before there is any work; it records nothing.

        Raises:
            InputError: the test split was read before.
            CorruptError: the record is damaged.
        """
        before = self.readings()
        if before:
            raise InputError(
                f"the test split was read for the run {str(self.run)!r} already, on {before[-1].when} by "
                f"{before[-1].command!r}; choose on the validation split, or ask to read it again "
                f"(again=True, --again), which is recorded"
            )

    def readings(self) -> tuple[Reading, ...]:
        """Every recorded reading, oldest first.

        Raises:
            CorruptError: the record cannot be understood.
        """
        try:
            entries = json.loads(self.path.read_text(encoding="utf-8"))
            if not entries:
                raise ValueError("it holds no entry")
            return tuple(Reading(**entry) for entry in entries)
        except FileNotFoundError:
            return ()
        except (OSError, ValueError, TypeError) as error:
            raise CorruptError(
                f"{str(self.path)!r} is damaged ({error}), so the test split may have been read for this run"
            ) from error

    @property
    def path(self) -> Path:
        """The marker file."""
        return Path(self.run) / "test-read.json"


def _text(*readings: Reading) -> str:
    return json.dumps([dataclasses.asdict(reading) for reading in readings], indent=1, ensure_ascii=False) + "\n"
