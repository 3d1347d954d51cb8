"""A web server of a folder, in a thread, which misbehaves when it is told to."""

from __future__ import annotations

import threading
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

from ssl_zoo.data import addresses


class Server:
    """FOLDER at `address`.

    Attributes:
        asked: how often each file was asked for, by GET.
        faults: file -> kinds of faults, one for each time that it is asked for: "500", "403", "cut" (breaks
            off half way), "short" (announces and sends half), "silent" (sends nothing for `silence` seconds).
        heads: codes that the next questions for a size are answered with, by HEAD.
    """

    def __init__(self, folder: Path):
        self.asked: Counter[str] = Counter()
        self.faults: dict[str, list[str]] = {}
        self.heads: list[int] = []
        self.silence = 30.0
        self.server = ThreadingHTTPServer(("127.0.0.1", 0), partial(Handler, self, directory=str(folder)))
        self.address = f"http://127.0.0.1:{self.server.server_port}"


class Handler(SimpleHTTPRequestHandler):
    def __init__(self, owner: Server, *args, **options):
        self.owner = owner
        super().__init__(*args, **options)

    def log_message(self, format: str, *args) -> None:
        pass

    def do_HEAD(self) -> None:
        if self.owner.heads:
            self.send_error(self.owner.heads.pop(0))
        else:
            super().do_HEAD()

    def do_GET(self) -> None:
        name = self.path.lstrip("/")
        self.owner.asked[name] += 1
        waiting = self.owner.faults.get(name, [])
        fault = waiting.pop(0) if waiting else ""
        if not fault:
            super().do_GET()
        elif fault.isdigit():
            self.send_error(int(fault))
        elif fault == "silent":
            time.sleep(self.owner.silence)
        else:
            content = (Path(self.directory) / name).read_bytes()
            half = content[: len(content) // 2]
            self.send_response(200)
            self.send_header("Content-Length", str(len(content if fault == "cut" else half)))
            self.end_headers()
            self.wfile.write(half)
            self.close_connection = True


@contextmanager
def served(folder: Path) -> Iterator[Server]:
    """The folder at an address, within the block, where nobody pauses long before asking again."""
    own, pause = Server(folder), addresses.PAUSE
    addresses.PAUSE = 0.01
    thread = threading.Thread(target=own.server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)
    thread.start()
    try:
        yield own
    finally:
        addresses.PAUSE = pause
        own.server.shutdown()
        own.server.server_close()
        thread.join()
