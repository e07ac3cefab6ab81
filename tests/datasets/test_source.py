"""Downloads, from a server on this machine."""

from __future__ import annotations

import gc
import gzip
import hashlib
import re
import threading
import warnings
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import numpy
import pytest

from vdcore.datasets import get_mnist, mnist
from vdcore.datasets.source import Source

pytest.importorskip("tqdm", reason="downloads need tqdm")
CONTENT = bytes(range(256)) * 100


class Server:
    """Serves a dictionary of files, until it is stopped."""

    def __init__(self):
        self.files = {}
        self.requests = []
        self.promised = None  # the Content-Length, if it is not the file's
        server = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self):
                server.requests.append(self.path)
                content = server.files.get(self.path)
                if content is None:
                    self.send_error(404)
                    return
                self.send_response(200)
                size = server.promised or len(content)
                self.send_header("Content-Length", str(size))
                self.end_headers()
                self.wfile.write(content)

            def log_message(self, *args):
                pass

        self._http = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._thread = threading.Thread(target=self._http.serve_forever, args=[0.01])
        self._thread.start()
        self.url = f"http://127.0.0.1:{self._http.server_port}/"

    def stop(self):
        if self._thread.is_alive():
            self._http.shutdown()
            self._thread.join()
            self._http.server_close()


@pytest.fixture
def server(monkeypatch):
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    server = Server()
    yield server
    server.stop()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ResourceWarning)
        gc.collect()  # pooch leaves the socket of a failed download to the collector


@pytest.fixture
def source(server):
    server.files["/small.bin"] = CONTENT
    checksum = hashlib.sha256(CONTENT).hexdigest()
    return Source("small", server.url, {"small.bin": checksum})


def test_good_download_is_used_again(cache, server, source, capsys):
    path = source.find("small.bin")
    assert path == cache / "small" / "small.bin"
    assert path.read_bytes() == CONTENT
    assert server.requests == ["/small.bin"]
    assert "100%" in capsys.readouterr().err  # the progress bar
    server.stop()
    assert source.find("small.bin") == path
    assert path.read_bytes() == CONTENT


@pytest.mark.parametrize(
    ("served", "reason"),
    [
        (CONTENT[:-1] + b"!", "hash"),
        (CONTENT[:-1], "1 more expected"),
        (None, "404"),
    ],
    ids=["other content", "cut short", "missing"],
)
def test_bad_download_is_refused(cache, server, source, served, reason):
    server.files["/small.bin"] = served
    server.promised = len(CONTENT)
    with pytest.raises(OSError, match=reason) as caught:
        source.find("small.bin")
    message = str(caught.value)
    assert f"could not download {server.url}small.bin" in message
    assert f"Put the file (SHA-256 {source.sha256['small.bin']})" in message
    assert list((cache / "small").iterdir()) == []
    server.files["/small.bin"] = CONTENT
    assert source.find("small.bin").read_bytes() == CONTENT


def test_damaged_file_in_the_cache_is_downloaded_again(cache, server, source):
    path = source.find("small.bin")
    for damaged in (CONTENT[:1000], b"", CONTENT[:-1] + b"!"):
        path.write_bytes(damaged)
        assert source.find("small.bin") == path
        assert path.read_bytes() == CONTENT
    assert server.requests == ["/small.bin"] * 4


def test_damaged_file_in_the_cache_is_never_used(cache, server, source):
    source.find("small.bin").write_bytes(CONTENT[:1000])
    server.stop()
    expected = re.escape(f"could not download {server.url}small.bin")
    with pytest.raises(OSError, match=expected):
        source.find("small.bin")


def test_get_mnist_downloads_what_it_reads(cache, server, monkeypatch):
    labels = numpy.asarray([3, 1, 4], numpy.uint8)
    images = numpy.full((3, 28, 28), 255, numpy.uint8)
    checksums = []
    names = [name for half in ("train", "test") for name in mnist.FILES[half]]
    for array, name in zip((images, labels) * 2, names, strict=True):
        header = numpy.asarray([0x800 + array.ndim, *array.shape], ">u4").tobytes()
        content = gzip.compress(header + array.tobytes())
        server.files[f"/{name}"] = content
        checksums.append(hashlib.sha256(content).hexdigest())
    monkeypatch.setattr(mnist, "MNIST", mnist._source("m", server.url, *checksums))
    train, test = get_mnist()
    for half in (train, test):
        x, t = half.arrays
        numpy.testing.assert_array_equal(x, numpy.ones((3, 784)))
        numpy.testing.assert_array_equal(t, [3, 1, 4])
    assert len(list((cache / "m").iterdir())) == len(server.requests) == 4
