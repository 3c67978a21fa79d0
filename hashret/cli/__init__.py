"""The command line: thin commands over the layers.

Each command is a module with ``SUMMARY``, ``EXAMPLES``, ``add_arguments(parser)`` and ``run(args)``; only the module
of the command that was asked for is imported, so that ``hashret search`` never waits for what ``hashret train`` needs.
Exit codes: 0 done, 1 a defect of hashret, 2 the user's input.
"""

from __future__ import annotations

import argparse
import contextlib
import errno
import importlib
import io
import logging
import os
import sys
import warnings
from collections.abc import Iterator, Sequence

from hashret.errors import HashretError, InputError
from hashret.registry import nearest

COMMANDS = {
    "demo": "learn, index, search and report on built-in emoji pictures",
    "train": "learn a model from pairs, as a configuration says",
    "encode": "turn pictures or captions into packed codes",
    "index": "encode a folder of photos, or a data set, into a collection that can be searched",
    "watch": "keep a collection in step with a folder of photos",
    "search": "find pictures by words or by a picture",
    "serve": "a search page and an HTTP service over a collection",
    "eval": "measure a model on a split",
    "export": "write a model as ONNX, for queries without torch",
    "compact": "free the space of a collection's deleted and replaced items",
    "info": "describe a model, a collection, a run or a code file",
}
_log = logging.getLogger(__name__)


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command; returns the exit code."""
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="backslashreplace")  # for names that a terminal's character set lacks
    code = _run(list(sys.argv[1:] if argv is None else argv))
    try:
        print(end="", flush=True)  # now, when it can still be told that the disk is full; at the exit Python would
    except OSError as error:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # what is left would fail again
        if not code and not isinstance(error, BrokenPipeError):
            code = _refuse(_told(error))
    return code


def _run(arguments: list[str]) -> int:
    try:
        if not arguments or arguments[0] in ("-h", "--help"):
            print(_overview())
        elif arguments[0] in ("-V", "--version"):
            import hashret

            print(f"hashret {hashret.__version__}")
        else:
            _command(arguments[0], arguments[1:])
    except HashretError as error:
        return _refuse(str(error))
    except BrokenPipeError:  # the reader of a pipe left early
        return 0
    except OSError as error:  # of a path that may not even be looked at, for one
        return _refuse(_told(error))
    except KeyboardInterrupt:
        return _refuse("interrupted; what was saved stays")
    except SystemExit as end:  # argparse has printed a description, or what is wrong
        return int(end.code or 0)
    return 0


def _command(name: str, rest: list[str]) -> None:
    if name not in COMMANDS:
        raise InputError(f"there is no command {name!r}{nearest(name, tuple(COMMANDS))}")
    command = importlib.import_module(f"hashret.cli.{name}")
    parser = argparse.ArgumentParser(
        prog=f"hashret {name}",
        description=command.SUMMARY,
        epilog="examples:\n" + "\n".join(f"  {line}" for line in command.EXAMPLES),
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("-v", "--verbose", action="store_true", help="log what is done to standard error")
    command.add_arguments(parser)
    args, left = parser.parse_known_args(rest)
    if left:  # as words that come after options; not always so, as it loses a -- before the first argument
        args = parser.parse_intermixed_args(rest)
    # of pictures that are large or carry odd EXIF: what cannot be used is told by name
    warnings.filterwarnings("ignore", module=r"PIL\.")
    with _logged(logging.INFO if args.verbose else logging.WARNING):
        command.run(args)


@contextlib.contextmanager
def _logged(level: int) -> Iterator[None]:
    """What is logged meanwhile goes to standard error."""
    root, handler = logging.getLogger(), logging.StreamHandler()
    handler.setFormatter(logging.Formatter("%(levelname)s %(message)s"))
    before = root.level
    root.addHandler(handler)
    root.setLevel(level)
    try:
        yield
    except BrokenPipeError:  # nothing has failed
        raise
    except OSError as error:
        _log.info("this is where it happened", exc_info=error)
        raise
    finally:
        root.setLevel(before)
        root.removeHandler(handler)


def _told(error: OSError) -> str:
    """A refusal of the system as a sentence; the output has no file name."""
    reason = error.strerror or " ".join(str(error).split()) or type(error).__name__
    full = error.errno in (errno.ENOSPC, errno.EDQUOT)
    if error.filename is not None:
        reason = f"{str(error.filename)!r}: {reason}"
    elif full:
        reason = f"the output cannot be written: {reason}"
    if full:
        return f"{reason}; make room, or name another place"
    if error.errno in (errno.EACCES, errno.EPERM, errno.EROFS):
        return f"{reason}; give the right to use it, or name another path"
    return reason


def _refuse(sentence: str) -> int:
    with contextlib.suppress(OSError):  # nobody reads standard error either
        print(f"hashret: {sentence}", file=sys.stderr)
    return 2


def _overview() -> str:
    width = max(map(len, COMMANDS))
    lines = "\n".join(f"  {name:<{width}}  {summary}" for name, summary in COMMANDS.items())
    return (
        "hashret: search images with words, and words with images, at a few bytes an item.\n\n"
        f"usage: hashret COMMAND ...\n\n{lines}\n\n"
        "hashret COMMAND --help explains a command by example."
    )
