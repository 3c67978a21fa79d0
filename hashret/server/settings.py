"""What a server may be told: limits, the token, names. Plain data."""

from __future__ import annotations

from dataclasses import dataclass

from hashret.errors import InputError

MAX_K = 1000  # hits of a query
MAX_CODES = 64  # codes of a request
MAX_HITS = 16_384  # hits of a request, of all its codes together: some 5 MB
MAX_ITEMS = 256  # items of a request that writes
MAX_TEXT = 2000  # characters of a query
MAX_ID = 4096  # characters of an id: of a folder's pictures it is a path, and Linux opens none that is longer
MAX_FILTER = 4000  # characters of a filter in an address or a form
MAX_CONDITIONS = 64  # of a filter: each takes half a second of a thread over a million items


@dataclass(frozen=True)
class Settings:
    """Limits of a server; beyond them a request is answered 413, 422, 429 or 503 and a sentence.

    Attributes:
        token: what a request that writes must carry; without one nothing can be written.
            An end of line behind it is left out.
        read_only: refuse writes, whatever the token.
        hosts: names in ``Host`` that are answered, against rebinding of names; empty answers all.
        credits: whom to thank for the pictures, if not whom the collection says; shown below the page.
        max_upload_bytes: of a body that holds a picture or items.
        max_json_bytes: of a JSON query.
        max_pixels: of an uploaded picture; one of the collection is shown up to the same size.
        max_queue: queries that may wait for the encoder, and as many for the searchers and the writer.
        max_per_client: requests of one address at a time.
        timeout_s: seconds for an answer; a write is never cut off.
        body_timeout_s: seconds for a body to arrive.
        batch_size: queries encoded together.
        batch_wait_ms: how long the first one waits for company.
        encoder_threads: of onnxruntime for one batch; None: half of the cores, so that searches go on meanwhile.
        readers: searching threads, each with its own reader of the collection.
        thumbnail_bytes: memory for thumbnails.
    """

    token: str | None = None
    read_only: bool = False
    hosts: tuple[str, ...] = ()
    credits: str = ""
    max_upload_bytes: int = 16 << 20
    max_json_bytes: int = 1 << 20
    max_pixels: int = 25_000_000
    max_queue: int = 64
    max_per_client: int = 128
    timeout_s: float = 15.0
    body_timeout_s: float = 30.0
    batch_size: int = 16
    batch_wait_ms: float = 2.0
    encoder_threads: int | None = None
    readers: int = 2
    thumbnail_bytes: int = 32 << 20

    def __post_init__(self) -> None:
        for name in (
            "max_upload_bytes", "max_json_bytes", "max_pixels", "max_queue", "max_per_client", "timeout_s",
            "body_timeout_s", "batch_size", "readers",
        ):  # fmt: skip
            if not getattr(self, name) > 0:
                raise InputError(f"{name} must be positive, not {getattr(self, name)!r}")
        if self.encoder_threads is not None and self.encoder_threads < 1:
            raise InputError(f"encoder_threads must be at least 1, not {self.encoder_threads}")
        if not (self.batch_wait_ms >= 0 and self.thumbnail_bytes >= 0):
            raise InputError("batch_wait_ms and thumbnail_bytes must not be negative")
        for host in self.hosts:
            if not host_name(host) or not host.isascii() or set(host) & set("/@ "):
                raise InputError(f"a host is a name or an address such as photos.example or fd00::1, and not {host!r}")
        if self.token is not None:
            token = self.token.rstrip("\r\n")  # most files of secrets end with one, and no header can
            if not (token and token.isascii() and token.isprintable() and token == token.strip()):
                raise InputError(
                    "the token must be what a header can hold: printable ASCII characters, with no spaces around them; "
                    "give another --token or HASHRET_TOKEN"
                )
            object.__setattr__(self, "token", token)


def host_name(host: str) -> str:
    """What ``Host`` holds, or somebody means by it, without the port: in small letters, an IPv6 address in brackets."""
    host = host.lower()
    if host.count(":") > 1 and not host.startswith("["):
        return f"[{host}]"
    return host[: host.index("]") + 1] if host.startswith("[") and "]" in host else host.split(":")[0]
