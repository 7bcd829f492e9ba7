"""A download that goes on where it was, and believes nothing until the whole is verified."""

from __future__ import annotations

import hashlib
import random
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from agent.errors import ModelError, RetryError
from agent.models import Download, http_fetch

MODEL = random.Random(1).randbytes(1_000_003)
SHA256 = hashlib.sha256(MODEL).hexdigest()
BLOCK = 65_536


class Source:
    """Serves blocks; breaks after as many as a test allows."""

    def __init__(self, content: bytes = MODEL, allowed: int = 10_000) -> None:
        self.content = content
        self.allowed = allowed
        self.asked: list[int] = []

    def __call__(self, offset: int, length: int) -> bytes:
        if not self.allowed:
            raise RetryError("the link is gone")
        self.allowed -= 1
        self.asked.append(offset)
        return self.content[offset : offset + length]


def download(folder: Path, trace: list[str] | None = None) -> Download:
    steps = trace if trace is not None else []
    return Download(folder, len(MODEL), SHA256, BLOCK, steps.append)


def test_a_download_yields_the_very_file(tmp_path: Path) -> None:
    progress: list[float] = []
    download(tmp_path).run(Source(), progress.append)

    assert (tmp_path / "model.onnx").read_bytes() == MODEL
    assert not (tmp_path / "progress.json").exists()


def test_after_a_broken_link_only_the_missing_blocks_are_fetched(tmp_path: Path) -> None:
    source = Source(allowed=5)
    with pytest.raises(RetryError):
        download(tmp_path).run(source, lambda _: None)
    source.allowed = 10_000
    download(tmp_path).run(source, lambda _: None)

    assert (tmp_path / "model.onnx").read_bytes() == MODEL
    assert len(source.asked) == len(set(source.asked))


def test_another_file_of_the_same_name_is_started_afresh(tmp_path: Path) -> None:
    with pytest.raises(RetryError):
        download(tmp_path).run(Source(allowed=5), lambda _: None)

    assert Download(tmp_path, len(MODEL), "0" * 64, BLOCK, lambda _: None).progress == 0


@pytest.mark.parametrize("content", [MODEL[:-1] + b"\0", MODEL[:100] + b"\xff" + MODEL[101:]])
def test_a_flipped_bit_is_found_and_nothing_of_the_file_is_trusted_again(tmp_path: Path, content: bytes) -> None:
    with pytest.raises(ModelError, match="another sha256"):
        download(tmp_path).run(Source(content), lambda _: None)
    assert download(tmp_path).progress == 0


def test_a_truncated_file_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="truncated"):
        download(tmp_path).run(Source(MODEL[:500_000]), lambda _: None)


def test_the_bitmap_is_written_after_the_blocks_that_it_speaks_of(tmp_path: Path) -> None:
    steps: list[str] = []
    download(tmp_path, steps).run(Source(), lambda _: None)

    written = [step for step in steps if step != "model.block"]
    assert written == ["model.blocks written", "model.progress saved"] * (len(written) // 2)


class Server(BaseHTTPRequestHandler):
    ranges = True

    def do_GET(self) -> None:
        wanted = self.headers.get("Range")
        if self.path == "/gone":
            self.send_error(404)
            return
        if self.path == "/busy":
            self.send_error(503)
            return
        content, status = MODEL, 200
        if wanted and self.path == "/ranges":
            first, last = wanted.removeprefix("bytes=").split("-")
            content, status = MODEL[int(first) : int(last) + 1], 206
        self.send_response(status)
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content[:1000] if self.path == "/cut" else content)

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture
def server() -> Iterator[str]:
    with ThreadingHTTPServer(("127.0.0.1", 0), Server) as http:
        thread = threading.Thread(target=http.serve_forever, args=(0.02,))
        thread.start()
        yield f"http://127.0.0.1:{http.server_port}"
        http.shutdown()
        thread.join()


@pytest.mark.parametrize("path", ["ranges", "whole"])
def test_http_serves_a_range_and_a_server_without_ranges_does_too(server: str, path: str) -> None:
    assert http_fetch(f"{server}/{path}")(70_000, 1000) == MODEL[70_000:71_000]


def test_http_errors_are_split_into_later_and_never(server: str) -> None:
    with pytest.raises(ModelError, match="404"):
        http_fetch(f"{server}/gone")(0, 10)
    with pytest.raises(RetryError, match="503"):
        http_fetch(f"{server}/busy")(0, 10)
    with pytest.raises(RetryError, match="cannot be reached"):
        http_fetch(f"{server}/cut")(0, 10_000)
    with pytest.raises(RetryError, match="cannot be reached"):
        http_fetch("http://127.0.0.1:9/model")(0, 10)


@pytest.mark.parametrize("url", ["file:///etc/passwd", "ftp://host/model", "model.onnx", ""])
def test_only_http_urls_are_followed(url: str) -> None:
    with pytest.raises(ModelError, match="no URL of a model"):
        http_fetch(url)
