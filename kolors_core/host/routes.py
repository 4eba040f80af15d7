"""What the canvas asks the server: how many tokens a prompt takes. Nothing of a prompt is kept or logged.

The host's own checks stand before it: a page of another origin is refused, and JSON is what no page may send unasked.
"""

from __future__ import annotations

import asyncio
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from aiohttp import web

from ..errors import KolorsError
from ..files.kinds import CHECKPOINT, ENCODER
from ..networks.tokenizer import PROMPT_ROWS
from .text_encoder.token_count import Tokenizers, count_tokens

PATH = "/kolors/tokens"
MOST_TOKENS = 4096  # as max_tokens of 'Kolors Prompt Encode'
LONGEST = 100_000  # characters
LARGEST = 1_000_000  # bytes of a request
#: What names the encoder, as the inputs of its loaders do, and the kind of file behind it.
NAMES = {"text_encoder_name": ENCODER, "ckpt_name": CHECKPOINT}

tokenizers = Tokenizers()
worker = ThreadPoolExecutor(1, "kolors-tokens")  # one at a time, and not where the server answers


class Refusal(Exception):
    """A status of HTTP, and why."""

    def __init__(self, status: int, reason: str):
        super().__init__(reason)
        self.status = status


def register() -> None:
    """Add the route to the host's server; where there is no server nothing happens."""
    from server import PromptServer  # here, for tests take the pack's nodes without one

    if getattr(PromptServer, "instance", None) is not None:
        PromptServer.instance.routes.post(PATH)(answer)


async def answer(request: web.Request) -> web.Response:
    """Answers {"text", "max_tokens", "text_encoder_name" or "ckpt_name"}, of which only the text must be there.

    {"tokens": how many the prompt takes, "cut": the character (code point) at which those beyond max_tokens begin, or
    null}; {"error": why not} with 400, 413 or 415 for the request, 404 where no tokenizer is found, and 422 for a
    prompt that the encoder refuses.
    """
    try:
        job = check(await read(request))
        count, cut = await asyncio.get_running_loop().run_in_executor(worker, count_for, *job)
    except Refusal as refusal:
        return web.json_response({"error": str(refusal)}, status=refusal.status)
    return web.json_response({"tokens": count, "cut": cut})


async def read(request: web.Request) -> Any:
    """The JSON of a request. Raises Refusal."""
    if request.content_type != "application/json":
        raise Refusal(415, "Expected JSON with the content type application/json.")
    if request.content_length is None or request.content_length > LARGEST:
        raise Refusal(413, f"Expected a request of at most {LARGEST:,} bytes that tells its length.")
    try:
        return await request.json()
    except (ValueError, RecursionError, LookupError):  # the last one for an encoding that Python does not have
        raise Refusal(400, "The request is no JSON.") from None


def check(body: Any) -> tuple[str, int, str, str | None]:
    """Text, limit, kind and name of the encoder's file. Raises Refusal."""
    text, limit = (body.get("text"), body.get("max_tokens", PROMPT_ROWS)) if isinstance(body, dict) else (None, None)
    if not isinstance(text, str):
        raise Refusal(400, 'Expected an object with a "text".')
    if len(text) > LONGEST:
        raise Refusal(413, f"The text has {len(text):,} characters. Expected at most {LONGEST:,}.")
    if type(limit) is not int or not PROMPT_ROWS <= limit <= MOST_TOKENS:
        raise Refusal(400, f'Expected a "max_tokens" from {PROMPT_ROWS} to {MOST_TOKENS:,}.')
    key = next((key for key in NAMES if body.get(key) is not None), "text_encoder_name")
    name = body.get(key)
    if not isinstance(name, str | None):
        raise Refusal(400, f'Expected the name of a file as "{key}".')
    return text, limit, NAMES[key], name


def count_for(text: str, limit: int, kind: str, name: str | None) -> tuple[int, int | None]:
    """`count_tokens` with the tokenizer of a file. Raises Refusal."""
    try:
        tokenizer = tokenizers.find(kind, name)
    except (KolorsError, OSError) as error:
        raise Refusal(404, str(error)) from None
    try:
        return count_tokens(tokenizer, text, limit)
    except KolorsError as error:
        raise Refusal(422, str(error)) from None
