"""What the Python client tests share: a server, a cutting proxy, contents and their proof."""

import hashlib
import http.client
import os
import random
import re
import shutil
import socket
import struct
import subprocess
import tempfile
import threading
import time
import unittest
from pathlib import Path
from urllib.parse import urlsplit, urlunsplit

KIB = 1024
MIB = 1024 * KIB

BINARY = os.environ.get(
    "WINDLASS_BIN", str(Path(__file__).resolve().parents[3] / "target/release/windlass")
)
FOREIGN_URL = os.environ.get("WINDLASS_URL")

#: Marks a test that needs a process of its own: its flags, or its death.
needs_own_server = unittest.skipIf(
    FOREIGN_URL, "needs a windlass of its own, but WINDLASS_URL names a running server"
)


def content(size: int, seed: object = 0) -> bytes:
    """Bytes that look random and depend only on the seed: a misplaced block shows."""
    return random.Random(str(seed)).randbytes(size)


def until(what: str, probe, timeout_seconds: float = 10.0):
    """Polls for a condition that nobody announces, and gives its first true value."""
    deadline = time.monotonic() + timeout_seconds
    while not (value := probe()):
        if time.monotonic() > deadline:
            raise AssertionError(f"after {timeout_seconds} s still not: {what}")
        time.sleep(0.02)
    return value


class Server:
    """A windlass process over a data directory of its own, or whatever WINDLASS_URL names."""

    def __init__(self, *flags: str):
        self.data_dir: Path | None = None
        self.url = FOREIGN_URL
        if not FOREIGN_URL:
            self.data_dir = Path(tempfile.mkdtemp(prefix="windlass-clients-"))
            self._start(flags)

    def _start(self, flags: tuple[str, ...]) -> None:
        self._log = tempfile.TemporaryFile("w+")
        self._process = subprocess.Popen(
            [BINARY, "--listen", "127.0.0.1:0", "--data-dir", str(self.data_dir), *flags],
            stdout=subprocess.PIPE,
            stderr=self._log,
            text=True,
        )
        # A server that never prints its URL is ended, which ends the loop below too.
        watchdog = threading.Timer(10, self._process.kill)
        watchdog.start()
        for line in self._process.stdout:
            if line.startswith("tus: "):
                self.url = line.removeprefix("tus: ").strip()
                break
        watchdog.cancel()
        if self.url is None:
            raise RuntimeError(f"{BINARY} printed no URL\n{self._read_log()}")

    def _read_log(self) -> str:
        self._log.seek(0)
        return self._log.read()

    def stop(self) -> None:
        """Stops it as an operator does: it must end cleanly and must not have panicked."""
        if self.data_dir is None:
            return
        self._process.terminate()
        code = self._process.wait(timeout=11)
        self._process.stdout.close()
        shutil.rmtree(self.data_dir)
        log = self._read_log()
        self._log.close()
        if code != 0 or "panicked" in log:
            raise AssertionError(f"the server ended with {code}\n{log}")


class CuttingProxy:
    """A TCP proxy that breaks connections after given numbers of bytes to the server.

    The manner of the break, as the server sees it: `fin`, an orderly end; `reset`; or `silence`,
    where the network has vanished and the server hears nothing at all.
    """

    MANNERS = ("fin", "reset", "silence")

    def __init__(self, target: str):
        parts = urlsplit(target)
        self._target = (parts.hostname, parts.port)
        self._listener = socket.create_server(("127.0.0.1", 0))
        port = self._listener.getsockname()[1]
        self.url = urlunsplit((parts.scheme, f"127.0.0.1:{port}", parts.path, "", ""))
        self._lock = threading.Lock()
        self._sizes: list[int] = []
        self._manner = ""
        self.cuts = 0
        self._silent: list[socket.socket] = []
        threading.Thread(target=self._accept, daemon=True).start()

    def cut_after(self, *sizes: int, manner: str) -> None:
        """Arms the proxy for one cut per size, each counted from the cut before it.

        The connection that carries that byte is cut, and later ones are not.
        """
        with self._lock:
            self._sizes, self._manner = list(sizes), manner

    def close(self) -> None:
        # Closing alone would leave the thread in accept().
        self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        for upstream in self._silent:
            upstream.close()

    def _accept(self) -> None:
        while True:
            try:
                client, _ = self._listener.accept()
            except OSError:
                return
            upstream = socket.create_connection(self._target)
            threading.Thread(target=self._to_server, args=(client, upstream), daemon=True).start()
            threading.Thread(target=self._to_client, args=(client, upstream), daemon=True).start()

    def _to_server(self, client: socket.socket, upstream: socket.socket) -> None:
        try:
            while data := client.recv(64 * KIB):
                allowed, manner = self._admit(data)
                upstream.sendall(allowed)
                if manner:
                    self._cut(client, upstream, manner)
                    return
            upstream.shutdown(socket.SHUT_WR)
        except OSError:
            # Either side broke the connection by itself: pass that on.
            client.close()
            upstream.close()

    def _to_client(self, client: socket.socket, upstream: socket.socket) -> None:
        try:
            while data := upstream.recv(64 * KIB):
                client.sendall(data)
            client.shutdown(socket.SHUT_RDWR)
        except OSError:
            pass

    def _admit(self, data: bytes) -> tuple[bytes, str]:
        """What may still be forwarded, and how to cut after it, if at all."""
        with self._lock:
            if not self._sizes:
                return data, ""
            allowed = data[: self._sizes[0]]
            self._sizes[0] -= len(allowed)
            if self._sizes[0] > 0:
                return allowed, ""
            self._sizes.pop(0)
            self.cuts += 1
            return allowed, self._manner

    def _cut(self, client: socket.socket, upstream: socket.socket, manner: str) -> None:
        client.shutdown(socket.SHUT_RDWR)
        client.close()
        if manner == "fin":
            upstream.shutdown(socket.SHUT_RDWR)
            upstream.close()
        elif manner == "reset":
            # Lingering for no time at all makes close() send a reset.
            upstream.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            upstream.close()
        else:
            self._silent.append(upstream)


class ClientTestCase(unittest.TestCase):
    """A server and a folder per class, and the proof that an upload is stored."""

    @classmethod
    def setUpClass(cls) -> None:
        cls.server = Server()
        cls.addClassCleanup(cls.server.stop)
        cls.folder = Path(tempfile.mkdtemp(prefix="windlass-clients-python-"))
        cls.addClassCleanup(shutil.rmtree, cls.folder)

    def own_server(self, *flags: str) -> Server:
        server = Server(*flags)
        self.addCleanup(server.stop)
        return server

    def proxy(self) -> CuttingProxy:
        proxy = CuttingProxy(self.server.url)
        self.addCleanup(proxy.close)
        return proxy

    def file(self, data: bytes, name: str = "data.bin") -> str:
        path = self.folder / name
        path.write_bytes(data)
        return str(path)

    def request(self, method: str, url: str, server: Server | None = None):
        """One request straight to the server, whatever proxy the client went through."""
        target = urlsplit((server or self.server).url)
        connection = http.client.HTTPConnection(target.hostname, target.port, timeout=10)
        try:
            connection.request(method, urlsplit(url).path, headers={"Tus-Resumable": "1.0.0"})
            response = connection.getresponse()
            return response.status, response.headers, response.read()
        finally:
            connection.close()

    def assert_stored(self, url: str, data: bytes, server: Server | None = None) -> None:
        """The upload is complete, and HEAD, GET and the disk all say `data`."""
        server = server or self.server
        status, fields, _ = self.request("HEAD", url, server)
        self.assertEqual(status, 200, "T-015: HEAD answers 200")
        self.assertEqual(fields["Upload-Offset"], str(len(data)), "T-012: the final offset")
        self.assertEqual(fields["Upload-Length"], str(len(data)), "T-013: the length")
        self.assertIsNone(fields["Upload-Defer-Length"], "T-050: no longer deferred")
        self.assertEqual(fields["Tus-Resumable"], "1.0.0", "T-005")

        status, _, body = self.request("GET", url, server)
        self.assertEqual(status, 200, "D-51: GET of a complete upload answers 200")
        self.assert_same(body, data, "GET")

        if server.data_dir is None:
            return
        path = server.data_dir / urlsplit(url).path.rsplit("/", 1)[-1]
        # A concatenated upload is answered before its plain file is laid down.
        if fields["Upload-Concat"]:
            until(f"{path.name} in the data directory", path.exists)
        self.assert_same(path.read_bytes(), data, "the plain file")

    def assert_same(self, given: bytes, expected: bytes, what: str) -> None:
        """Compares by hash: a failure should not print megabytes."""
        hashes = [(len(each), hashlib.sha256(each).hexdigest()) for each in (given, expected)]
        self.assertEqual(hashes[0], hashes[1], f"bytes of {what}")

    def assert_gone(self, url: str) -> None:
        for method in ("HEAD", "GET"):
            self.assertEqual(self.request(method, url)[0], 404, f"T-092: {method} after DELETE")

    def assert_refused(self, status: int):
        """The client reports this status, whichever way its error carries it."""
        return self.assertRaisesRegex(Exception, re.compile(rf"\b{status}\b"))
