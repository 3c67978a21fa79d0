"""Keep a collection in step with a folder until somebody says stop.

The folder is looked through every few seconds, which works on every file system; where the package watchfiles is
installed, the operating system's word of a change makes the next look come at once. Knows when to look, and leaves
what to do to ``FolderIndex``.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

from hashret._lazy import available, require
from hashret.data.files import is_folder
from hashret.errors import DataError, InputError
from hashret.indexing.changes import Changes
from hashret.indexing.folder import FolderIndex

SETTLE = 1.0  # seconds without a change after which a picture counts as written
_TURN = 0.2  # seconds for which the system is asked at a time; its first answer says that it watches now

_log = logging.getLogger(__name__)


def watch_folder(
    index: FolderIndex,
    *,
    interval: float = 5.0,
    stop: threading.Event | None = None,
    on_change: Callable[[Changes], None] | None = None,
) -> None:
    """Update the collection whenever the folder has changed: additions, changes, renames and deletions.

    Ends between two updates when ``stop`` is set; an interrupt (Ctrl-C) ends it within one, and what was encoded is
    stored. A folder that is away for a while (an unmounted disk) is waited for, and nothing is removed meanwhile.

    Args:
        index: open.
        interval: seconds between two looks.
        stop: ends it.
        on_change: called after each update that changed something or met a picture that cannot be used.

    Raises:
        InputError: ``interval`` is not positive, or longer than the system can wait.
        StorageError: the disk is full or fails; what was committed stays.
    """
    check_interval(interval)
    stop = stop or threading.Event()
    looks = _looks(index.root, interval, stop)
    reported: frozenset[str] = frozenset()
    away = ""
    waiting = False
    while not stop.is_set():
        try:
            changes = index.update(prune=True, settle=SETTLE)
        except DataError as error:
            if str(error) != away:
                _log.warning("%s; waiting for it", error)
            away, waiting = str(error), False
        else:
            away, waiting = "", bool(changes.waiting)
            skipped = frozenset(changes.skipped.reasons)
            if on_change is not None and (changes.any or skipped - reported):
                on_change(changes)
            reported = skipped
        if waiting:
            stop.wait(min(SETTLE, interval))
        else:
            next(looks)


def check_interval(interval: float) -> None:
    """Refuse seconds that cannot be waited.

    Raises:
        InputError: they are not positive, or more than the system can wait.
    """
    if not 0 < interval <= threading.TIMEOUT_MAX:
        raise InputError(
            f"the interval is a number of seconds above 0, at most {threading.TIMEOUT_MAX:.0f}, and not {interval}"
        )


def _looks(root: Path, interval: float, stop: threading.Event) -> Iterator[None]:
    """Waits until it is time to look again: at once where the system begins to tell, for it told nothing before."""
    events = available("watchfiles")
    while True:
        if events and is_folder(root):
            watchfiles = require("watchfiles", extra="watch")
            due = 0.0
            try:
                for changes in watchfiles.watch(
                    root,
                    stop_event=stop,
                    rust_timeout=max(1, int(1000 * min(interval, _TURN))),  # 0 would be for ever
                    yield_on_timeout=True,
                    raise_interrupt=True,
                ):
                    if not changes and time.monotonic() < due:
                        continue
                    yield
                    due = time.monotonic() + interval
                    if not is_folder(root):
                        break  # watched again when it is back
            except (OSError, RuntimeError) as error:  # the system has no more watches, or the folder went just now
                events = not is_folder(root)
                if not events:
                    _log.warning("changes are not told by the system (%s); looking every %g s", error, interval)
        stop.wait(interval)
        yield
