"""``hashret watch``: keep a collection in step with a folder of photos."""

from __future__ import annotations

import argparse
import signal
import sys

SUMMARY = (
    "Keep a collection in step with a folder of photos: new, changed, renamed and deleted pictures, until Ctrl-C. "
    "Readers (hashret search) see each change once it is stored; nobody else can write meanwhile."
)
EXAMPLES = (
    "hashret watch ./photos --out photos.hashret",
    "hashret watch ./photos --model model/ --interval 60",
)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments."""
    from hashret.cli._folder import add_folder_arguments

    parser.add_argument("folder", help="a folder of pictures")
    add_folder_arguments(parser)
    parser.add_argument(
        "--interval",
        type=float,
        default=5.0,
        help="seconds between two looks (5); with the package watchfiles a change is seen at once",
    )
    parser.add_argument("--n-bits", type=int, help="length of the codes of a new collection (all)")
    parser.add_argument("--batch-size", type=int, default=32)
    parser.add_argument("--device", default="auto")


def run(args: argparse.Namespace) -> None:
    """Watch until Ctrl-C, or until the process is asked to end."""
    from hashret.cli._folder import open_folder, report
    from hashret.indexing import Changes, watch_folder
    from hashret.indexing.watch import check_interval

    check_interval(args.interval)  # before a collection is made

    def say(changes: Changes) -> None:
        for line in report(changes):
            print(line, flush=True)

    before = signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        with open_folder(args, args.folder) as index:
            print(f"watching {index.root} for {index.collection.path}; Ctrl-C ends it", file=sys.stderr, flush=True)
            watch_folder(index, interval=args.interval, on_change=say)
    except KeyboardInterrupt:
        print("hashret: stopped; what was encoded is stored", file=sys.stderr)
    finally:
        signal.signal(signal.SIGTERM, before)
