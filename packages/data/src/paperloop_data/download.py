"""Fetching a file whose content is known: a temporary name, a checksum, then the real name."""

from __future__ import annotations

import contextlib
import hashlib
import http.client
import re
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Callable, Generator
from pathlib import Path

from paperloop.errors import UserError
from paperloop.files import sha256 as file_sha256
from paperloop.files import write_atomically
from paperloop_data.formats.writing import refuse_existing, saving

__all__ = ["download"]


def download(
    url: str,
    path: str | Path,
    sha256: str,
    *,
    overwrite: bool = False,
    timeout: float = 30.0,
    progress: Callable[[int, int | None], None] | None = None,
) -> Path:
    """Fetch `url` to `path`, which appears only once it is whole and its checksum is right.

    A file that is already there with the right checksum is left as it is, and nothing is fetched: so a machine without
    a network works with files put there by hand.

    Args:
        url: an http or https address.
        path: where to put it; missing parent folders are made.
        sha256: the checksum, 64 hexadecimal digits.
        overwrite: replace a file of another checksum.
        timeout: seconds without a byte before giving up.
        progress: called with (bytes so far, bytes in all or None).

    Returns:
        The path.

    Raises:
        UserError: the server cannot be reached or answers with an error, the content is cut short or has another
            checksum, or another file is in the way. Nothing is left behind.
    """
    path, sha256 = Path(path), sha256.lower()
    if not re.fullmatch("[0-9a-f]{64}", sha256):
        raise UserError(f"A SHA-256 has 64 hexadecimal digits; got {sha256!r}.")
    if urllib.parse.urlsplit(url).scheme not in ("http", "https"):
        raise UserError(f"download() takes http and https addresses; got {url!r}.")
    if path.is_file() and file_sha256(path) == sha256:
        return path
    refuse_existing(path, overwrite, "its checksum is another one; move it away")
    by_hand = f"where there is no network, put the file at {path} by hand (SHA-256 {sha256})"

    def fetch(temporary: Path) -> None:
        digest, received = hashlib.sha256(), 0
        with _network(url, by_hand):
            answer = urllib.request.urlopen(url, timeout=timeout)
        with answer, temporary.open("wb") as file:
            length = answer.headers.get("Content-Length")
            total = int(length) if length and length.isdigit() else None
            while True:
                with _network(url, by_hand):
                    piece = answer.read(1 << 20)
                if not piece:
                    break
                digest.update(piece)
                received += len(piece)
                file.write(piece)
                if progress is not None:
                    progress(received, total)
        if total is not None and received != total:
            raise UserError(f"{url} broke off after {received} of {total} bytes; try again, or {by_hand}.")
        if digest.hexdigest() != sha256:
            raise UserError(
                f"{url} has the SHA-256 {digest.hexdigest()} and not {sha256}; the file there has changed or the "
                "checksum is wrong, so nothing was kept."
            )

    with saving(path):
        write_atomically(path, fetch)
    return path


@contextlib.contextmanager
def _network(url: str, by_hand: str) -> Generator[None]:
    try:
        yield
    except urllib.error.HTTPError as error:
        raise UserError(f"{url} answers {error.code} {error.reason}; check the address, or {by_hand}.") from None
    except (OSError, http.client.HTTPException) as error:  # URLError, timeouts and broken connections
        reason = getattr(error, "reason", error)
        raise UserError(f"{url} cannot be fetched ({reason}); try again, or {by_hand}.") from None
