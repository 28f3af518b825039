"""A server with OpenAI's chat completions interface as generator of question-answer pairs."""

from __future__ import annotations

import asyncio
import os
import threading
import weakref
from collections.abc import Iterator, Sequence
from typing import Any
from urllib.parse import urlsplit

import openai

from lift_eval.answering.generate import Answer
from lift_eval.errors import GeneratorError
from lift_eval.recipe import AuxiliarySettings

SHOWN_CHARACTERS = 200
"""Most characters of a server's own message in an error."""


class ServerGenerator:
    """A server as generator: requests go out together, replies come back in their order.

    Address and key are read from the environment (OPENAI_BASE_URL, OPENAI_API_KEY) and stand in no error, log or
    result. JSON replies are asked for by a JSON schema; a server that refuses it is asked without, since the
    request says in words what form the reply has.

    Args:
        model: The model's name at the server.
        settings: The recipe's auxiliary group.

    Raises:
        GeneratorError: If the environment says neither where the server is nor what the key is, or has a password in
            the address.
    """

    def __init__(self, model: str, settings: AuxiliarySettings) -> None:
        address, self._key = os.environ.get("OPENAI_BASE_URL"), os.environ.get("OPENAI_API_KEY")
        if not address and not self._key:
            raise GeneratorError(
                f"auxiliary.generator 'openai:{model}' needs a server: set OPENAI_BASE_URL to its address (ending in "
                "/v1), or OPENAI_API_KEY for OpenAI's own, or both"
            )
        if "@" in urlsplit(address or "").netloc:
            # The HTTP library would log it.
            raise GeneratorError(
                "OPENAI_BASE_URL must hold no user or password; the key goes into OPENAI_API_KEY"
            )
        self.model, self.settings = model, settings
        self._schema = _schema(settings) if settings.reply_format == "json" else None
        self._client = openai.AsyncOpenAI(
            api_key=self._key or "none",  # local servers want none, the client wants one
            base_url=address or None,
            timeout=settings.timeout_seconds,
            max_retries=settings.retries,
        )
        self._slots = asyncio.Semaphore(settings.batch)
        self._loop = asyncio.new_event_loop()
        thread = threading.Thread(target=self._loop.run_forever, name="pair-generator", daemon=True)
        thread.start()
        self.identity = f"openai {self._place} {model}"
        self.close = weakref.finalize(self, _close, self._client, self._loop, thread)
        """Ends connections and the thread that holds them; also done when the program ends."""

    def generate(self, requests: Sequence[str], *, temperature: float, seed: int) -> Iterator[Answer]:
        """See `PairGenerator`. Requests still under way are cancelled where the caller stops early."""
        futures = [
            asyncio.run_coroutine_threadsafe(
                self._reply(request, temperature, (seed + number) % 2**31), self._loop
            )
            for number, request in enumerate(requests)
        ]
        try:
            for future in futures:
                yield future.result()
        finally:
            for future in futures:
                future.cancel()

    async def _reply(self, request: str, temperature: float, seed: int) -> Answer:
        tries = self.settings.retries + 1
        async with self._slots:
            try:
                # The client's timeout is for each piece of a reply; this one ends a server that drips for ever.
                completion = await asyncio.wait_for(
                    self._complete(request, temperature, seed), self.settings.timeout_seconds * tries
                )
                choice = completion.choices[0]
                content, complete = choice.message.content, choice.finish_reason != "length"
            except (openai.APITimeoutError, asyncio.TimeoutError):
                raise self._error(
                    f"gave no reply in time, {tries} tries of {self.settings.timeout_seconds:g} s; check the server, "
                    "or set a longer auxiliary.timeout_seconds"
                ) from None
            except openai.APIStatusError as error:
                raise self._error(
                    f"refused with status {error.status_code} ({self._shown(error)}); check the model's name, the key "
                    "and the server's log"
                ) from None
            except openai.APIConnectionError as error:
                raise self._error(
                    f"cannot be reached, {tries} tries ({self._shown(error.__cause__ or error)}); check "
                    "OPENAI_BASE_URL and that the server runs"
                ) from None
            except (openai.APIError, ValueError, AttributeError, IndexError, TypeError) as error:
                raise self._error(
                    f"sent no chat completion ({type(error).__name__}); OPENAI_BASE_URL must be an OpenAI-compatible "
                    "server, usually ending in /v1"
                ) from None
        return Answer(content if isinstance(content, str) else "", complete)  # a refusal has no content

    async def _complete(self, request: str, temperature: float, seed: int) -> Any:  # noqa: ANN401 - may be anything
        create: Any = self._client.chat.completions.create
        arguments: dict[str, Any] = {
            "model": self.model,
            "messages": [{"role": "user", "content": request}],
            "temperature": temperature,
            "max_tokens": self.settings.reply_tokens,
            "seed": seed,
        }
        if self._schema is None:
            return await create(**arguments)
        try:
            return await create(**arguments, response_format=self._schema)
        except openai.BadRequestError:
            completion = await create(**arguments)
            self._schema = None  # the schema was the fault
            return completion

    def _error(self, what: str) -> GeneratorError:
        return GeneratorError(f"auxiliary.generator 'openai:{self.model}' at {self._place} {what}")

    @property
    def _place(self) -> str:
        """Name and port of the server."""
        url = self._client.base_url
        return f"{url.host}:{url.port}" if url.port else url.host

    def _shown(self, error: BaseException) -> str:
        text = " ".join(str(error).split())
        if self._key:
            text = text.replace(self._key, "***")
        return text[:SHOWN_CHARACTERS] or type(error).__name__


def _schema(settings: AuxiliarySettings) -> dict[str, Any]:
    """What a reply with pairs looks like, in the words of OpenAI's structured outputs."""
    keys = ["question", "answer", *(["evidence"] if settings.needs_evidence else [])]
    pair = {
        "type": "object",
        "properties": {key: {"type": "string"} for key in keys},
        "required": keys,
        "additionalProperties": False,
    }
    reply = {
        "type": "object",
        "properties": {"pairs": {"type": "array", "items": pair}},
        "required": ["pairs"],
        "additionalProperties": False,
    }
    return {"type": "json_schema", "json_schema": {"name": "pairs", "strict": True, "schema": reply}}


def _close(client: openai.AsyncOpenAI, loop: asyncio.AbstractEventLoop, thread: threading.Thread) -> None:
    asyncio.run_coroutine_threadsafe(client.close(), loop).result(timeout=5)
    loop.call_soon_threadsafe(loop.stop)
    thread.join(timeout=5)
    if not loop.is_running():
        loop.close()
