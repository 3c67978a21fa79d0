"""``hashret serve``: a search page and an HTTP service over a collection."""

from __future__ import annotations

import argparse
import ipaddress
import os
import webbrowser

from hashret.errors import InputError

SUMMARY = "Serve a collection: a search page for people, an HTTP service for programs (described at /openapi.json)."
EXAMPLES = (
    "hashret serve photos.hashret --open",
    "HASHRET_TOKEN=secret hashret serve photos.hashret --host 0.0.0.0 --port 8080",
    "hashret serve photos.hashret --host 0.0.0.0 --read-only",
)
LOOPBACK = ("localhost", "127.0.0.1", "[::1]")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments."""
    parser.add_argument("collection", help="the directory of a collection")
    parser.add_argument("--host", default="127.0.0.1", help="the address to bind (127.0.0.1: this machine only)")
    parser.add_argument("--port", type=int, default=8000, help="the port, 0 for any (8000)")
    parser.add_argument("--token", help="what requests that write must carry (the variable HASHRET_TOKEN)")
    parser.add_argument("--read-only", action="store_true", help="refuse every write")
    parser.add_argument("--model", help="the model's directory, if not where the collection says")
    parser.add_argument("--credits", default="", help="whom to thank for the pictures, if not whom the collection says")
    parser.add_argument(
        "--allow-host", action="append", default=[], metavar="NAME", help="answer to this name in Host as well"
    )
    parser.add_argument("--open", action="store_true", help="show the page in the browser")
    limits = parser.add_argument_group("limits, answered 413, 422, 429 or 503 beyond")
    limits.add_argument("--max-upload-mb", type=float, default=16, help="of a picture or of items (16)")
    limits.add_argument("--max-pixels", type=int, default=25_000_000, help="of a picture (25,000,000)")
    limits.add_argument("--max-queue", type=int, default=64, help="requests that may wait for a kind of thread (64)")
    limits.add_argument("--max-per-client", type=int, default=128, help="requests of one address at a time (128)")
    limits.add_argument("--timeout", type=float, default=15.0, help="seconds for an answer (15)")
    work = parser.add_argument_group("threads")
    work.add_argument("--readers", type=int, default=2, help="searching threads (2)")
    work.add_argument("--encoder-threads", type=int, help="of onnxruntime for a batch (half of the cores)")
    work.add_argument("--batch-size", type=int, default=16, help="queries encoded together (16)")
    work.add_argument("--batch-wait-ms", type=float, default=2.0, help="how long a query waits for company (2)")


def run(args: argparse.Namespace) -> None:
    """Serve until Ctrl-C or SIGTERM."""
    from hashret.server import Settings, create_app, serve

    local = _is_local(args.host)
    token = args.token or os.environ.get("HASHRET_TOKEN") or None
    if not local and token is None and not args.read_only:
        raise InputError(
            f"{args.host} can be reached from other machines: give a --token (or HASHRET_TOKEN) for writing, "
            "or say --read-only"
        )
    settings = Settings(
        token=token,
        read_only=args.read_only,
        hosts=(*((*LOOPBACK, args.host) if local else ()), *args.allow_host),
        credits=args.credits,
        max_upload_bytes=_bytes(args.max_upload_mb),
        max_pixels=args.max_pixels,
        max_queue=args.max_queue,
        max_per_client=args.max_per_client,
        timeout_s=args.timeout,
        encoder_threads=args.encoder_threads,
        readers=args.readers,
        batch_size=args.batch_size,
        batch_wait_ms=args.batch_wait_ms,
    )
    app = create_app(args.collection, model=args.model, settings=settings)

    def started(address: str) -> None:
        off = "off (--read-only)" if args.read_only else "off (a --token would allow it)"
        writes = "with the token" if token and not args.read_only else off
        print(f"{args.collection} is served at {address}  (writing: {writes}; stop with Ctrl-C)", flush=True)
        if args.open:
            webbrowser.open(address)

    most = 2 * settings.max_per_client  # some are between two requests
    serve(app, host=args.host, port=args.port, started=started, client_connections=most)


def _bytes(megabytes: float) -> int:
    if not 0 < megabytes < 1 << 20:
        raise InputError(f"--max-upload-mb must be a positive number of megabytes, not {megabytes:g}")
    return int(megabytes * (1 << 20))


def _is_local(host: str) -> bool:
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False
