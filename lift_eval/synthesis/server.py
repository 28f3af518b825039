"""A server with OpenAI's chat completions interface as generator of question-answer pairs."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

from lift_eval.answering.decoding import Answer
from lift_eval.answering.thinking import without_thinking
from lift_eval.errors import GeneratorError
from lift_eval.record.progress import OnProgress, ignore
from lift_eval.servers.chat import (
    ChatClient,
    LateReplyError,
    NoReplyError,
    RefusedError,
    Reply,
    UnreachableError,
    is_configured,
)
from lift_eval.synthesis.base import Request
from lift_eval.synthesis.settings import AuxiliarySettings


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
            the address, or if the server refuses the key.
    """

    operations = 0.0

    def __init__(self, model: str, settings: AuxiliarySettings) -> None:
        if not is_configured():
            raise GeneratorError(
                f"auxiliary.generator 'openai:{model}' needs a server: set OPENAI_BASE_URL to its address (ending in "
                "/v1), or OPENAI_API_KEY for OpenAI's own, or both"
            )
        self.model, self.settings = model, settings
        self._schema = _schema(settings) if settings.reply_format == "json" else None
        self._client = ChatClient(
            model,
            concurrency=settings.batch,
            timeout=settings.timeout_seconds,
            retries=settings.retries,
            error=GeneratorError,
        )
        refusal = self._client.key_refusal()
        if refusal is not None:
            raise GeneratorError(
                f"auxiliary.generator 'openai:{model}' at {self._client.place} {self._words(refusal)}"
            )
        self.identity = f"openai {self._client.address} {model}"
        self.close = self._client.close
        self.on_answered: OnProgress = ignore

    def generate(self, requests: Sequence[Request], *, temperature: float, seed: int) -> Iterator[Answer]:
        """See `PairGenerator`. Requests still under way are cancelled where the caller stops early."""
        futures = [
            self._client.submit(self._reply(request, temperature, (seed + number) % 2**31))
            for number, request in enumerate(requests)
        ]
        told = self.on_answered
        told(0, len(futures), "")
        try:
            for number, future in enumerate(futures, start=1):
                reply = future.result()
                told(number, len(futures), "")
                yield reply
        finally:
            for future in futures:
                future.cancel()

    async def _reply(self, request: Request, temperature: float, seed: int) -> Answer:
        async with self._client.slots:
            try:
                reply = await self._ask(request, temperature, seed)
            except NoReplyError as error:
                raise GeneratorError(
                    f"auxiliary.generator 'openai:{self.model}' at {self._client.place} {self._words(error)}"
                ) from None
        return Answer(without_thinking(reply.text), reply.complete)

    async def _ask(self, request: Request, temperature: float, seed: int) -> Reply:
        system = [{"role": "system", "content": request.system}] if request.system else []
        messages = [*system, {"role": "user", "content": request.text}]
        options = {"temperature": temperature, "max_tokens": self.settings.reply_tokens, "seed": seed}
        if self._schema is None:
            return await self._client.ask(messages, **options)
        try:
            return await self._client.ask(messages, **options, response_format=self._schema)
        except RefusedError as error:
            if error.status != 400:
                raise
            reply = await self._client.ask(messages, **options)
            self._schema = None  # the schema was the fault
            return reply

    def _words(self, error: NoReplyError) -> str:
        """What the server did, and what to do about it."""
        tries = f"{self.settings.retries + 1} tries"
        if isinstance(error, LateReplyError):
            did = f"gave no reply in time, {tries} of {self.settings.timeout_seconds:g} s"
            return f"{did}; check the server, or set a longer auxiliary.timeout_seconds"
        if isinstance(error, RefusedError):
            did = f"refused with status {error.status} ({error})"
            return f"{did}; check the model's name, the key and the server's log"
        if isinstance(error, UnreachableError):
            did = f"cannot be reached, {tries} ({error})"
            return f"{did}; check OPENAI_BASE_URL and that the server runs"
        did = f"sent no chat completion ({error})"
        return f"{did}; OPENAI_BASE_URL must be an OpenAI-compatible server, usually ending in /v1"


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
