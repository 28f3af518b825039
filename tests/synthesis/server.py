"""A real HTTP server on loopback that speaks OpenAI's chat completions, well or badly as a test wants."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any


@dataclass
class Reply:
    """What the server does with one request."""

    text: str | None = ""
    status: int = 200
    headers: dict[str, str] = field(default_factory=dict)
    body: bytes | None = None
    delay: float = 0.0
    cut: bool = False
    finish: str = "stop"
    drip: float = 0.0

    def content(self) -> bytes:
        if self.body is not None:
            return self.body
        if self.status != 200:
            return json.dumps({"error": {"message": self.text, "type": "test"}}).encode()
        message = {"role": "assistant", "content": self.text}
        completion = {
            "id": "x",
            "object": "chat.completion",
            "created": 0,
            "model": "m",
            "choices": [{"index": 0, "message": message, "finish_reason": self.finish}],
        }
        return json.dumps(completion).encode()


@dataclass
class Log:
    """What the server saw."""

    url: str
    requests: list[dict[str, Any]] = field(default_factory=list)
    keys: list[str] = field(default_factory=list)
    at_once: int = 0
    busy: int = 0

    @property
    def prompts(self) -> list[str]:
        return [request["messages"][0]["content"] for request in self.requests]


@contextmanager
def chat_server(
    reply: Callable[[dict[str, Any], int], Reply | str], models: Callable[[str], Reply] | None = None
) -> Iterator[Log]:
    """Serve until the context ends.

    Args:
        reply: Makes the reply to a request; gets its number, from 0, too.
        models: Makes the reply to a request for the list of models, from the key. None means status 404.
    """
    lock, ended = threading.Lock(), threading.Event()

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_GET(self) -> None:
            self.send(Reply(status=404) if models is None else models(self.headers["Authorization"]))

        def do_POST(self) -> None:
            request = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            with lock:
                number = len(log.requests)
                log.requests.append(request)
                log.keys.append(self.headers["Authorization"])
                log.busy += 1
                log.at_once = max(log.at_once, log.busy)
            try:
                made = reply(request, number)
                self.send(Reply(made) if isinstance(made, str) else made)
            except OSError:
                pass  # the client hung up
            finally:
                with lock:
                    log.busy -= 1

        def send(self, made: Reply) -> None:
            ended.wait(made.delay)
            content = made.content()
            self.send_response(made.status)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(content)))
            for name, value in made.headers.items():
                self.send_header(name, value)
            self.end_headers()
            if made.cut:
                self.wfile.write(content[:10])
                self.close_connection = True
                return
            for byte in content if made.drip else ():
                self.wfile.write(bytes([byte]))
                self.wfile.flush()
                if ended.wait(made.drip):
                    return
            if not made.drip:
                self.wfile.write(content)

        def log_message(self, *_: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    server.block_on_close = False
    log = Log(f"http://127.0.0.1:{server.server_port}/v1")
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True)
    thread.start()
    try:
        yield log
    finally:
        ended.set()
        server.shutdown()
        server.server_close()
        thread.join()


def wait_until(condition: Callable[[], bool], seconds: float = 10.0) -> None:
    """Wait until something is so; fail where it never is."""
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "waited in vain"
        time.sleep(0.005)
