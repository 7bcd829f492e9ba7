"""A network camera with RTSP: RTP/JPEG, interleaved with the requests on one TCP connection (RFC 2326, RFC 2435)."""

from __future__ import annotations

import select
import socketserver
import struct
from contextlib import suppress
from dataclasses import dataclass

from tests.fakes.mjpeg import PICTURES_PER_S, NetworkCamera

_CLOCK = 90_000
_PAYLOAD = 1_400
_SDP = (
    "v=0\r\no=- 1 1 IN IP4 127.0.0.1\r\ns=camera\r\nc=IN IP4 0.0.0.0\r\nt=0 0\r\n"
    "m=video 0 RTP/AVP 26\r\na=control:track0\r\n"
)


class _RtspAnswer(socketserver.StreamRequestHandler):
    camera: NetworkCamera
    _admitted: bool

    def handle(self) -> None:
        with suppress(OSError), self.camera.admitting() as self._admitted:
            while (method := self._answer()) not in ("", "PLAY"):
                pass
            if method == "PLAY":
                self._play()

    def _answer(self) -> str:
        """Answer one request; its method, or "" at the end. A report in RTCP is taken and not answered."""
        first = self.rfile.read(1)
        if first == b"$":
            self.rfile.read(struct.unpack(">xH", self.rfile.read(3))[0])
            return "RTCP"
        lines = [(first + self.rfile.readline()).decode("latin-1").strip()]
        while (line := self.rfile.readline()) not in (b"\r\n", b""):
            lines.append(line.decode("latin-1").strip())
        if not lines[0].endswith(" RTSP/1.0"):  # the end, or the client's answer to our garbage
            return ""
        method, url, _ = lines[0].split()
        headers = {name.lower(): value.strip() for name, _, value in (line.partition(":") for line in lines[1:])}
        status, extra, body = self._reply(method, url, headers)
        head = [f"RTSP/1.0 {status}", f"CSeq: {headers['cseq']}", *extra, f"Content-Length: {len(body)}"]
        self.wfile.write(("\r\n".join(head) + "\r\n\r\n" + body).encode())
        return method if status.startswith("200") or method != "PLAY" else ""

    def _reply(self, method: str, url: str, headers: dict[str, str]) -> tuple[str, list[str], str]:
        """Status, further headers and body."""
        if not self._admitted:
            return "503 Service Unavailable", [], ""
        if method != "OPTIONS" and not self.camera.is_welcome(headers.get("authorization")):
            return "401 Unauthorized", ['WWW-Authenticate: Basic realm="camera"'], ""
        if method == "SETUP" and "interleaved" not in headers["transport"]:
            return "461 Unsupported Transport", [], ""
        return "200 OK", *{
            "OPTIONS": (["Public: OPTIONS, DESCRIBE, SETUP, PLAY, TEARDOWN"], ""),
            "DESCRIBE": (["Content-Type: application/sdp", f"Content-Base: {url}/"], _SDP),
            "SETUP": (["Transport: RTP/AVP/TCP;unicast;interleaved=0-1", "Session: 1"], ""),
        }.get(method, (["Session: 1"], ""))

    def _play(self) -> None:
        sequence = 0
        for number, (is_picture, content) in enumerate(self.camera.stream()):
            if select.select([self.connection], [], [], 0)[0] and self._answer() in ("", "TEARDOWN"):
                return
            if not is_picture:
                self.wfile.write(content)
                continue
            payloads = Jpeg.parse(content).payloads()
            for i, payload in enumerate(payloads):
                last = 0x80 * (i == len(payloads) - 1)
                time_stamp = number * _CLOCK // PICTURES_PER_S
                packet = struct.pack(">BBHII", 0x80, last | 26, sequence & 0xFFFF, time_stamp, 7) + payload
                self.wfile.write(struct.pack(">cBH", b"$", 0, len(packet)) + packet)
                sequence += 1


@dataclass
class Jpeg:
    """What RTP carries of a baseline JPEG with 4:2:0 chroma and the usual Huffman tables."""

    width: int
    height: int
    tables: bytes
    """Quantisation, luma and chroma."""
    scan: bytes

    @classmethod
    def parse(cls, jpeg: bytes) -> Jpeg:
        at, tables, size = 2, b"", (0, 0)
        while jpeg[at + 1] != 0xDA:
            length = int.from_bytes(jpeg[at + 2 : at + 4], "big")
            segment = jpeg[at + 4 : at + 2 + length]
            if jpeg[at + 1] == 0xDB:
                tables += b"".join(segment[i + 1 : i + 65] for i in range(0, len(segment), 65))
            elif jpeg[at + 1] == 0xC0:
                size = struct.unpack(">HH", segment[1:5])
            at += 2 + length
        begin = at + 2 + int.from_bytes(jpeg[at + 2 : at + 4], "big")
        return cls(size[1], size[0], tables, jpeg[begin:-2])

    def payloads(self) -> list[bytes]:
        """RTP payloads; the first holds the tables (Q 255)."""
        made = []
        for offset in range(0, len(self.scan), _PAYLOAD):
            head = struct.pack(">IBBBB", offset, 1, 255, self.width // 8, self.height // 8)
            tables = struct.pack(">HH", 0, len(self.tables)) + self.tables if offset == 0 else b""
            made.append(head + tables + self.scan[offset : offset + _PAYLOAD])
        return made


class RtspCamera(NetworkCamera):
    """Over RTSP; only interleaved TCP."""

    Answer = _RtspAnswer
    address = "rtsp://127.0.0.1:{port}/stream"
