"""The client of servers with OpenAI's chat completions interface."""

from __future__ import annotations

import asyncio
import os
import threading
import weakref
from collections.abc import Coroutine, Mapping, Sequence
from concurrent.futures import Future
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeVar
from urllib.parse import urlsplit

from lift_eval.errors import LiftEvalError

if TYPE_CHECKING:
    import openai

ADDRESS, KEY = "OPENAI_BASE_URL", "OPENAI_API_KEY"
"""The environment variables that name the server and hold its key."""
SHOWN_CHARACTERS = 200
"""Most characters of a server's own message in an error."""
KEY_SECONDS = 10.0
"""Longest wait for a server to say whether it takes a key."""

Result = TypeVar("Result")


class NoReplyError(Exception):
    """A request got no reply; the message says what is known of it, without the key, on one line.

    Attributes:
        cause: A short name, alike for like failures.
    """

    cause = ""


class LateReplyError(NoReplyError):
    """The server did not reply in time."""

    cause = "no reply in time"


class UnreachableError(NoReplyError):
    """There is no connection to the server, or it broke."""

    cause = "APIConnectionError"


class NoCompletionError(NoReplyError):
    """What the server sent is no chat completion."""

    cause = "no chat completion in the server's answer"


class RefusedError(NoReplyError):
    """The server refuses the request.

    Attributes:
        status: The HTTP status.
    """

    def __init__(self, status: int, message: str) -> None:
        """Keep the status."""
        super().__init__(message)
        self.status, self.cause = status, f"HTTP {status}"


@dataclass(frozen=True)
class Reply:
    """What a server replied.

    Attributes:
        text: The text; empty where there is none, as in a refusal of the model.
        complete: Whether it ended by itself, not at the most tokens allowed.
    """

    text: str
    complete: bool


def is_configured() -> bool:
    """Whether the environment says where a server is or what the key is."""
    return bool(os.environ.get(ADDRESS) or os.environ.get(KEY))


class ChatClient:
    """A model at a server. Requests are made in a thread of the client's own, so that a notebook can wait for them.

    Address and key are read from the environment (OPENAI_BASE_URL, OPENAI_API_KEY). The key stands in no error and no
    log.

    Args:
        model: The model's name at the server.
        concurrency: Most requests at once, as far as callers hold one of `slots` for each.
        timeout: Seconds that one try may take.
        retries: How often a request is sent again after a fault that may pass, with growing pauses.
        error: Class of the error for an address that cannot be used.

    Raises:
        LiftEvalError: If the address is not an address, or holds a password, or the client library is not installed.
    """

    def __init__(
        self, model: str, *, concurrency: int, timeout: float, retries: int, error: type[LiftEvalError]
    ) -> None:
        address, self._key = os.environ.get(ADDRESS) or None, os.environ.get(KEY)
        if address is not None and (fault := _fault(address)):
            raise error(f"{ADDRESS} {fault}")
        try:
            import openai
        except ModuleNotFoundError as missing:
            raise error(
                f"model '{model}' at a server is asked through the package openai; pip install 'lift-eval[server]'"
            ) from missing
        client = openai.AsyncOpenAI(
            api_key=self._key or "none",  # local servers want none, the client wants one
            base_url=address,
            timeout=timeout,
            max_retries=retries,
        )
        url = client.base_url
        self.address = str(url)
        self.place = f"{url.host}:{url.port}" if url.port else url.host
        """Name and port of the server."""
        self.slots = asyncio.Semaphore(concurrency)
        self._model, self._client, self._longest = model, client, timeout * (retries + 1)
        self._loop = asyncio.new_event_loop()
        thread = threading.Thread(target=self._loop.run_forever, name="chat-client", daemon=True)
        thread.start()
        self.close = weakref.finalize(self, _close, client, self._loop, thread)
        """Ends requests, connections and the thread that holds them; also done when the program ends."""

    def submit(self, work: Coroutine[Any, Any, Result]) -> Future[Result]:
        """Start work in the client's thread."""
        return asyncio.run_coroutine_threadsafe(work, self._loop)

    def key_refusal(self) -> RefusedError | None:
        """Ask the server for its models, which takes a key but no work of a model.

        Returns:
            How it refuses the key; None where it takes it, does not answer, or knows no such request.
        """
        return self.submit(self._key_refusal()).result()

    async def _key_refusal(self) -> RefusedError | None:
        import openai

        client: Any = self._client.with_options(max_retries=0)
        try:
            await asyncio.wait_for(client.models.with_raw_response.list(), KEY_SECONDS)
        except (openai.AuthenticationError, openai.PermissionDeniedError) as error:
            return RefusedError(error.status_code, self._describe(error))
        except (openai.OpenAIError, asyncio.TimeoutError):
            pass
        return None

    async def ask(self, messages: Sequence[Mapping[str, str]], **options: Any) -> Reply:  # noqa: ANN401 - OpenAI's
        """Ask for a completion of a chat.

        Args:
            messages: The chat: role and content of each message.
            options: Of the request, by OpenAI's names.

        Raises:
            NoReplyError: If there is no reply, after all retries.
        """
        import openai

        create: Any = self._client.chat.completions.create
        try:
            # The library's timeout is for each piece of a reply; this one ends a server that drips for ever.
            completion = await asyncio.wait_for(
                create(model=self._model, messages=messages, **options), self._longest
            )
            choice = completion.choices[0]
            text, complete = choice.message.content, choice.finish_reason != "length"
        except (openai.APITimeoutError, asyncio.TimeoutError):
            raise LateReplyError from None
        except openai.APIStatusError as error:
            raise RefusedError(error.status_code, self._describe(error)) from None
        except openai.APIConnectionError as error:
            raise UnreachableError(self._describe(error.__cause__ or error)) from None
        except (openai.APIError, ValueError, AttributeError, IndexError, TypeError) as error:
            raise NoCompletionError(type(error).__name__) from None
        return Reply(text if isinstance(text, str) else "", complete)

    def _describe(self, error: BaseException) -> str:
        text = " ".join(str(error).split())
        if self._key:
            text = text.replace(self._key, "***")
        return text[:SHOWN_CHARACTERS] or type(error).__name__


def _fault(address: str) -> str | None:
    """Why an address cannot be used, without showing it."""
    try:
        parts = urlsplit(address)
        known = parts.scheme in ("http", "https") and parts.hostname and parts.port != 0
    except ValueError:  # of the port, or of brackets that do not close
        known = False
    if not known:
        return "must be an address such as http://localhost:8000/v1"
    # The HTTP library would log a password.
    return f"must not contain a user or password; put the key in {KEY}" if "@" in parts.netloc else None


def _close(client: openai.AsyncOpenAI, loop: asyncio.AbstractEventLoop, thread: threading.Thread) -> None:
    async def end() -> None:
        for task in asyncio.all_tasks() - {asyncio.current_task()}:
            task.cancel()
        await client.close()

    asyncio.run_coroutine_threadsafe(end(), loop).result(timeout=5)
    loop.call_soon_threadsafe(loop.stop)
    thread.join(timeout=5)
    if not loop.is_running():
        loop.close()
