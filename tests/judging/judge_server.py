"""An OpenAI-compatible server on the loopback that can also be slow, rude and broken."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

Reply = str | int | bytes
"""A chat's content, an HTTP status, or the raw body of an answer that is then cut off."""


class JudgeServer(ThreadingHTTPServer):
    """Answers chats as `reply` says, and remembers them."""

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.reply: Callable[[str], Reply] = lambda user: "True"
        self.chats: list[dict[str, Any]] = []
        self.keys: list[str | None] = []
        self.at_once = 0
        self.most_at_once = 0
        self.lock = threading.Lock()


class _Handler(BaseHTTPRequestHandler):
    server: JudgeServer

    def do_POST(self) -> None:
        server = self.server
        chat = json.loads(self.rfile.read(int(self.headers["content-length"])))
        with server.lock:
            server.chats.append(chat)
            server.keys.append(self.headers["authorization"])
            server.at_once += 1
            server.most_at_once = max(server.most_at_once, server.at_once)
        reply = server.reply(chat["messages"][-1]["content"])
        with server.lock:
            server.at_once -= 1
        if isinstance(reply, int):
            self._send(reply, b'{"error": {"message": "no"}}')
        elif isinstance(reply, bytes):
            self._send(200, reply, cut=True)
        else:
            message = {"role": "assistant", "content": reply}
            choice = {"index": 0, "message": message, "finish_reason": "stop"}
            chat = {"id": "1", "object": "chat.completion", "created": 0, "model": "m", "choices": [choice]}
            self._send(200, json.dumps(chat).encode())

    def _send(self, status: int, body: bytes, *, cut: bool = False) -> None:
        self.send_response(status)
        self.send_header("content-type", "application/json")
        self.send_header("content-length", str(len(body) + 100 * cut))
        self.end_headers()
        self.wfile.write(body)
        self.close_connection = True

    def log_message(self, *_: object) -> None:
        """Say nothing."""
