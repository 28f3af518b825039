"""Pairs from a server, over a real connection."""

from __future__ import annotations

import logging
import sys
import threading
import time
from collections.abc import Iterator
from itertools import islice
from typing import Any

import pytest

from lift_eval.answering.decoding import Answer
from lift_eval.errors import GeneratorError
from lift_eval.recipe import AuxiliarySettings
from lift_eval.synthesis.base import Request
from lift_eval.synthesis.server import ServerGenerator
from tests.synthesis.server import Reply, chat_server

KEY = "sk-never-shown-0123456789"
SENTENCES: dict[str, Any] = {"strategy": "sentences", "generator": "openai:m", "timeout_seconds": 5.0}
AT_ONCE = {"retry-after-ms": "1"}


@pytest.fixture(autouse=True)
def _key(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", KEY)


def generate(url: str, requests: list[str], monkeypatch: pytest.MonkeyPatch, **changes: Any) -> list[str]:
    monkeypatch.setenv("OPENAI_BASE_URL", url)
    generator = ServerGenerator("m", AuxiliarySettings(**{**SENTENCES, **changes}))
    try:
        return [
            reply.text for reply in generator.generate(list(map(Request, requests)), temperature=0.7, seed=11)
        ]
    finally:
        generator.close()


def test_replies_come_in_the_order_of_the_requests(monkeypatch: pytest.MonkeyPatch) -> None:
    def slow_first(request: dict[str, Any], _: int) -> Reply:
        prompt = request["messages"][0]["content"]
        return Reply(f"to {prompt}", delay=0.2 if prompt == "0" else 0.0)

    with chat_server(slow_first) as server:
        replies = generate(server.url, ["0", "1", "2"], monkeypatch)
    assert replies == ["to 0", "to 1", "to 2"]


def test_a_request_says_what_the_recipe_says(monkeypatch: pytest.MonkeyPatch) -> None:
    with chat_server(lambda *_: "x") as server:
        generate(server.url, ["a", "b"], monkeypatch, max_tokens=77)
    first = next(request for request in server.requests if request["messages"][0]["content"] == "a")
    assert (first["model"], first["max_tokens"], first["temperature"], first["seed"]) == ("m", 77, 0.7, 11)
    assert first["response_format"]["json_schema"]["schema"]["required"] == ["pairs"]
    assert sorted(request["seed"] for request in server.requests) == [11, 12]
    assert set(server.keys) == {f"Bearer {KEY}"}


@pytest.mark.parametrize(("pairs", "most"), [(1, 512), (5, 640), (10, 1280)])
def test_the_most_tokens_of_a_reply_grow_with_the_pairs_asked_for(
    pairs: int, most: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    with chat_server(lambda *_: "x") as server:
        generate(server.url, ["a"], monkeypatch, pairs=pairs)
    assert [request["max_tokens"] for request in server.requests] == [most]


def test_a_reply_that_was_cut_off_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    with chat_server(lambda _, number: Reply("x", finish=("stop", "length")[number])) as server:
        monkeypatch.setenv("OPENAI_BASE_URL", server.url)
        generator = ServerGenerator("m", AuxiliarySettings(**SENTENCES, batch=1))
        assert list(generator.generate(list(map(Request, ["a", "b"])), temperature=0.0, seed=0)) == [
            Answer("x", complete=True),
            Answer("x", complete=False),
        ]
        generator.close()


def test_thinking_that_a_server_leaves_in_a_reply_is_no_part_of_it(monkeypatch: pytest.MonkeyPatch) -> None:
    thoughts = ["<think>Hm.</think>\n\n{}", "Hm.</think>{}", "<think>Hm"]
    with chat_server(lambda request, _: thoughts[int(request["messages"][0]["content"])]) as server:
        assert generate(server.url, ["0", "1", "2"], monkeypatch) == ["{}", "{}", ""]


def test_no_more_requests_at_once_than_the_recipe_allows(monkeypatch: pytest.MonkeyPatch) -> None:
    together = threading.Barrier(3, timeout=30)

    def reply(*_: object) -> str:
        together.wait()  # for two others that are under way
        return "x"

    with chat_server(reply) as server:
        generate(server.url, ["a"] * 21, monkeypatch, batch=3)
    assert server.at_once == 3


def test_the_first_reply_is_there_before_the_last(monkeypatch: pytest.MonkeyPatch) -> None:
    last = threading.Event()

    def reply(request: dict[str, Any], _: int) -> str:
        if request["messages"][0]["content"] == "last":
            last.wait(10)
        return "x"

    with chat_server(reply) as server:
        monkeypatch.setenv("OPENAI_BASE_URL", server.url)
        generator = ServerGenerator("m", AuxiliarySettings(**SENTENCES))
        replies = generator.generate(list(map(Request, ["first", "last"])), temperature=0.0, seed=0)
        assert next(replies).text == "x"
        assert not last.is_set()
        last.set()
        assert [reply.text for reply in replies] == ["x"]
        generator.close()


@pytest.mark.parametrize(
    "fault",
    [
        Reply(status=429, headers=AT_ONCE),
        Reply(status=500, headers=AT_ONCE),
        Reply(status=503),
        Reply(cut=True),
    ],
    ids=["too many requests", "server error", "unavailable", "cut connection"],
)
def test_a_passing_fault_is_tried_again(fault: Reply, monkeypatch: pytest.MonkeyPatch) -> None:
    with chat_server(lambda _, number: fault if number == 0 else "x") as server:
        assert generate(server.url, ["a"], monkeypatch, retries=1) == ["x"]
    assert len(server.requests) == 2


def test_retry_after_is_obeyed(monkeypatch: pytest.MonkeyPatch) -> None:
    busy = Reply(status=429, headers={"Retry-After": "0.3"})
    began = time.monotonic()
    with chat_server(lambda _, number: busy if number == 0 else "x") as server:
        generate(server.url, ["a"], monkeypatch, retries=1)
    assert time.monotonic() - began >= 0.3


@pytest.mark.parametrize(
    ("fault", "words"),
    [
        (Reply("full", status=429, headers=AT_ONCE), "refused with status 429"),
        (Reply("broken", status=500, headers=AT_ONCE), "refused with status 500"),
        (Reply(f"Incorrect API key provided: {KEY}", status=401), "refused with status 401"),
        (Reply("no such model", status=404), "no such model"),
        (Reply(cut=True), "cannot be reached, 2 tries"),
        (Reply(body=b'{"choices": ['), "sent no chat completion"),
        (Reply(body=b"[]"), "sent no chat completion"),
        (Reply(body=b'{"choices": []}'), "sent no chat completion"),
        (Reply(body=b"<html>Hello</html>"), "sent no chat completion"),
    ],
    ids=["429", "500", "401", "404", "cut", "malformed", "a list", "no choices", "a web page"],
)
def test_a_lasting_fault_ends_in_one_line(fault: Reply, words: str, monkeypatch: pytest.MonkeyPatch) -> None:
    with chat_server(lambda *_: fault) as server, pytest.raises(GeneratorError) as caught:
        generate(server.url, ["a"], monkeypatch, retries=1)
    message = str(caught.value)
    assert words in message
    assert "openai:m" in message
    assert "127.0.0.1" in message
    assert "\n" not in message
    assert KEY not in message


@pytest.mark.parametrize("fault", [Reply("x", delay=60), Reply("x", drip=0.05)], ids=["hangs", "drips"])
def test_a_server_that_never_ends_its_reply_is_given_up(
    fault: Reply, monkeypatch: pytest.MonkeyPatch
) -> None:
    with (
        chat_server(lambda *_: fault) as server,
        pytest.raises(GeneratorError, match=r"gave no reply in time, 2 tries of 0\.2 s"),
    ):
        generate(server.url, ["a"], monkeypatch, retries=1, timeout_seconds=0.2)


def test_no_server_at_all(monkeypatch: pytest.MonkeyPatch) -> None:
    with chat_server(lambda *_: "x") as server:
        url = server.url
    with pytest.raises(GeneratorError, match=r"cannot be reached.*OPENAI_BASE_URL"):
        generate(url, ["a"], monkeypatch, retries=0)


def test_a_server_without_json_schemas_is_asked_without(monkeypatch: pytest.MonkeyPatch) -> None:
    def plain(request: dict[str, Any], _: int) -> Reply:
        return Reply("unknown field", status=400) if "response_format" in request else Reply("x")

    with chat_server(plain) as server:
        assert generate(server.url, ["a"] * 4, monkeypatch, batch=1) == ["x"] * 4
    assert ["response_format" in request for request in server.requests] == [True] + [False] * 4


def test_labels_are_asked_for_without_a_schema(monkeypatch: pytest.MonkeyPatch) -> None:
    with chat_server(lambda *_: "x") as server:
        generate(server.url, ["a"], monkeypatch, reply="labels")
    assert "response_format" not in server.requests[0]


def test_a_refusal_without_content_is_an_empty_reply(monkeypatch: pytest.MonkeyPatch) -> None:
    with chat_server(lambda *_: Reply(None)) as server:
        assert generate(server.url, ["a"], monkeypatch) == [""]


def test_the_key_stands_in_no_log_and_no_identity(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    with chat_server(lambda *_: "x") as server, caplog.at_level(logging.DEBUG):
        monkeypatch.setenv("OPENAI_BASE_URL", server.url)
        generator = ServerGenerator("m", AuxiliarySettings(**SENTENCES))
        list(generator.generate(list(map(Request, ["a"])), temperature=0.0, seed=0))
        generator.close()
    assert server.requests
    assert KEY not in caplog.text + generator.identity


def test_a_password_in_the_address_is_refused_unseen(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OPENAI_BASE_URL", "http://someone:secret@localhost/v1")
    with pytest.raises(GeneratorError, match="not contain a user or password") as caught:
        ServerGenerator("m", AuxiliarySettings(**SENTENCES))
    assert "secret" not in str(caught.value)


@pytest.mark.parametrize(
    "address", ["localhost:8000/v1", "http://localhost:port/v1", "http://[::1", "http:///v1"]
)
def test_an_address_that_is_none_is_refused(address: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OPENAI_BASE_URL", address)
    with pytest.raises(
        GeneratorError, match="OPENAI_BASE_URL must be an address such as http://localhost:8000/v1"
    ):
        ServerGenerator("m", AuxiliarySettings(**SENTENCES))


def test_without_key_and_address_there_is_no_server(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("OPENAI_API_KEY")
    monkeypatch.delenv("OPENAI_BASE_URL", raising=False)
    with pytest.raises(GeneratorError, match="set OPENAI_BASE_URL"):
        ServerGenerator("m", AuxiliarySettings(**SENTENCES))


def test_without_its_library_the_extra_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "openai", None)
    with pytest.raises(GeneratorError, match=r"pip install 'lift-eval\[server\]'"):
        ServerGenerator("m", AuxiliarySettings(**SENTENCES))


def test_a_caller_that_stops_early_leaves_no_requests_behind(monkeypatch: pytest.MonkeyPatch) -> None:
    with chat_server(lambda *_: Reply("x", delay=0.01)) as server:
        monkeypatch.setenv("OPENAI_BASE_URL", server.url)
        generator = ServerGenerator("m", AuxiliarySettings(**SENTENCES, batch=1))
        replies: Iterator[Answer] = generator.generate(
            list(map(Request, ["a"] * 1000)), temperature=0.0, seed=0
        )
        assert [reply.text for reply in islice(replies, 2)] == ["x", "x"]
        replies.close()  # type: ignore[attr-defined]
        generator.close()
        assert len(server.requests) < 10


def test_servers_are_told_apart_by_their_whole_address(monkeypatch: pytest.MonkeyPatch) -> None:
    """One name and port may lead to several servers by path, each with models of its own."""
    identities = set()
    for path in ("one/v1", "two/v1"):
        monkeypatch.setenv("OPENAI_BASE_URL", f"http://localhost:9/{path}")
        generator = ServerGenerator("m", AuxiliarySettings(**SENTENCES))
        identities.add(generator.identity)
        generator.close()
    assert len(identities) == 2
