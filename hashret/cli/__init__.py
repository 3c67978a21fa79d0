"""The command line: thin commands over the layers.

Each command is a module with ``SUMMARY``, ``EXAMPLES``, ``add_arguments(parser)`` and ``run(args)``; only the module
of the command that was asked for is imported, so that ``hashret search`` never waits for what ``hashret train`` needs.
Exit codes: 0 done, 1 a defect of hashret, 2 the user's input.
"""

from __future__ import annotations

import argparse
import importlib
import logging
import os
import sys
from collections.abc import Sequence

from hashret.errors import HashretError
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


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command; returns the exit code."""
    arguments = list(sys.argv[1:] if argv is None else argv)
    if not arguments or arguments[0] in ("-h", "--help"):
        print(_overview())
        return 0
    if arguments[0] in ("-V", "--version"):
        import hashret

        print(f"hashret {hashret.__version__}")
        return 0
    name, rest = arguments[0], arguments[1:]
    if name not in COMMANDS:
        return _refuse(f"there is no command {name!r}{nearest(name, tuple(COMMANDS))}")
    return _run(name, rest)


def _run(name: str, rest: list[str]) -> int:
    try:
        command = importlib.import_module(f"hashret.cli.{name}")
        parser = argparse.ArgumentParser(
            prog=f"hashret {name}",
            description=command.SUMMARY,
            epilog="examples:\n" + "\n".join(f"  {line}" for line in command.EXAMPLES),
            formatter_class=argparse.RawDescriptionHelpFormatter,
        )
        parser.add_argument("-v", "--verbose", action="store_true", help="log what is done to standard error")
        command.add_arguments(parser)
        args = parser.parse_args(rest)
        logging.basicConfig(level=logging.INFO if args.verbose else logging.WARNING, format="%(levelname)s %(message)s")
        command.run(args)
    except HashretError as error:
        return _refuse(str(error))
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # the reader of a pipe left early
        return 0
    except KeyboardInterrupt:
        return _refuse("interrupted; what was saved stays")
    return 0


def _refuse(sentence: str) -> int:
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
