"""Downloads against a server on the loop-back address."""

from __future__ import annotations

import hashlib
import http.server
import socket
import threading

import pytest

from paperloop.errors import UserError
from paperloop_data import download

CONTENT = bytes(range(256)) * 5000
DIGEST = hashlib.sha256(CONTENT).hexdigest()


class Handler(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        self.server.asked.append(self.path)
        if self.path == "/absent":
            self.send_error(404)
            return
        self.send_response(200)
        if self.path != "/unsized":
            self.send_header("Content-Length", str(len(CONTENT)))
        self.end_headers()
        self.wfile.write(CONTENT[:1000] if self.path == "/short" else CONTENT)

    def log_message(self, *_):
        pass


@pytest.fixture
def server(monkeypatch):
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler) as running:
        running.asked = []
        thread = threading.Thread(target=running.serve_forever)
        thread.start()
        running.url = f"http://127.0.0.1:{running.server_port}"
        yield running
        running.shutdown()
        thread.join()


def test_the_file_arrives_whole(tmp_path, server):
    told = []
    path = download(
        f"{server.url}/a", tmp_path / "deep" / "a.hdf5", DIGEST.upper(), progress=lambda *now: told.append(now)
    )
    assert path.read_bytes() == CONTENT
    assert told[-1] == (len(CONTENT), len(CONTENT))
    assert [p.name for p in path.parent.iterdir()] == ["a.hdf5"]
    assert download(f"{server.url}/unsized", tmp_path / "b", DIGEST).read_bytes() == CONTENT


def test_a_file_that_is_there_is_not_fetched_again(tmp_path, server):
    (tmp_path / "a").write_bytes(CONTENT)
    assert download(f"{server.url}/a", tmp_path / "a", DIGEST) == tmp_path / "a"
    assert server.asked == []


def test_another_file_in_the_way(tmp_path, server):
    (tmp_path / "a").write_bytes(b"mine")
    with pytest.raises(UserError, match="exists already; its checksum is another"):
        download(f"{server.url}/a", tmp_path / "a", DIGEST)
    assert (tmp_path / "a").read_bytes() == b"mine"
    download(f"{server.url}/a", tmp_path / "a", DIGEST, overwrite=True)
    assert (tmp_path / "a").read_bytes() == CONTENT


@pytest.mark.parametrize(
    ("route", "digest", "message"),
    [
        ("/absent", DIGEST, "answers 404 Not Found.*by hand"),
        ("/short", DIGEST, f"broke off after 1000 of {len(CONTENT)} bytes|cannot be fetched"),
        ("/a", "0" * 64, f"has the SHA-256 {DIGEST} and not 0000"),
        ("/a", "abc", "64 hexadecimal digits"),
    ],
)
def test_a_failed_download_leaves_nothing(tmp_path, server, route, digest, message):
    with pytest.raises(UserError, match=message) as caught:
        download(server.url + route, tmp_path / "a", digest)
    assert "\n" not in str(caught.value)
    assert list(tmp_path.iterdir()) == []


def test_offline_says_what_to_do(tmp_path, monkeypatch):
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]  # bound but not listening: the connection is refused
        with pytest.raises(UserError, match=rf"cannot be fetched \(.*refused.*\).*{tmp_path / 'a'} by hand"):
            download(f"http://127.0.0.1:{port}/a", tmp_path / "a", DIGEST)
    assert list(tmp_path.iterdir()) == []


def test_a_silent_server_times_out(tmp_path, monkeypatch):
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    with socket.socket() as silent:
        silent.bind(("127.0.0.1", 0))
        silent.listen()
        with pytest.raises(UserError, match="timed out"):
            download(f"http://127.0.0.1:{silent.getsockname()[1]}/a", tmp_path / "a", DIGEST, timeout=0.2)


@pytest.mark.parametrize("url", ["file:///etc/hostname", "ftp://127.0.0.1/a", "a.hdf5"])
def test_only_the_web(tmp_path, url):
    with pytest.raises(UserError, match="http and https"):
        download(url, tmp_path / "a", DIGEST)
