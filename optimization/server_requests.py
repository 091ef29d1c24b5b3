"""From the bytes that a client sent to a request that can be written, or to a refusal.

A server's clients are strangers. Everything is checked before it may enter the batch: what fails
there would fail for all the rows beside it. A refusal has a status that says whose turn it is: 400
for what cannot be read, 422 for what can be read and not be done, 503 for "not now".
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from gpt.sampling import Sampling
from tutorial_kit.console import one_line
from tutorial_kit.tokenizers import UNKNOWN, Tokenizer

FIELDS: dict[str, tuple[type, ...]] = {
    "prompt": (str,),
    "max_new": (int,),
    "temperature": (int, float),
    "seed": (int,),
    "stream": (bool,),
}
TYPE_NAMES = {str: "a text", int: "a whole number", float: "a number", bool: "true or false"}
DEFAULT_NEW = 64  # tokens, for a request that does not say
SHOWN = 40  # characters of a client's text that an error repeats


class Refusal(Exception):
    """A request that is not served: a status of HTTP and one line that says why and what to do."""

    def __init__(self, status: int, text: str, headers: Mapping[str, str] | None = None) -> None:
        super().__init__(text)
        self.status, self.text, self.headers = status, text, dict(headers or {})


@dataclass(frozen=True)
class Request:
    """What to write; every value has been checked."""

    prompt: list[int]  # token ids, 1 to the longest prompt
    max_new: int  # most tokens to write
    sampling: Sampling = field(default_factory=Sampling)  # how
    seed: int = 0  # the same seed writes the same text, whatever else is in the batch
    stream: bool = False  # send each token when it is written


@dataclass(frozen=True)
class Limits:
    """What a request may ask for."""

    max_prompt: int  # tokens
    max_new: int  # tokens


def stop_tokens(tokenizer: Tokenizer) -> set[int]:
    """Returns the tokens that end a text: all that stand for no text, but for ``<unk>``."""
    return {token for name, token in tokenizer.special_tokens.items() if name != UNKNOWN}


def parse_request(body: bytes, tokenizer: Tokenizer, limits: Limits) -> Request:
    """Turns the body of POST /generate into a request.

    Args:
        body: JSON: {"prompt": text} and optionally max_new, temperature, seed, stream.
        tokenizer: the model's.
        limits: what may be asked for.

    Raises:
        Refusal: 400 for what is no JSON object of these fields and types, 422 for values that
            cannot be served.
    """
    values = _read_object(body)
    _check_types(values)
    if "prompt" not in values:
        raise Refusal(400, 'the field "prompt" is missing: there is nothing to continue.')
    max_new = values.get("max_new", min(DEFAULT_NEW, limits.max_new))
    if not 1 <= max_new <= limits.max_new:
        raise Refusal(
            422, f"max_new={_short(max_new)} is not served: use 1 to {limits.max_new} tokens."
        )
    temperature = values.get("temperature", 1.0)
    if temperature != 0 and not 0.01 <= temperature <= 100:
        raise Refusal(
            422, f"temperature={_short(temperature)} leaves no choice that makes sense: use 0 for "
            "the most probable token, or 0.01 to 100."
        )  # fmt: skip
    seed = values.get("seed", 0)
    if not 0 <= seed < 2**63:
        raise Refusal(422, f"seed={_short(seed)} is no seed: use 0 to 2^63 - 1.")
    return Request(
        _encode(values["prompt"], tokenizer, limits.max_prompt), max_new,
        Sampling(temperature=float(temperature)), seed, values.get("stream", False),
    )  # fmt: skip


def _read_object(body: bytes) -> dict[str, Any]:
    """Reads a JSON object; NaN and Infinity, which Python would accept, are no JSON."""

    def refuse_constant(name: str) -> None:
        raise ValueError(f"{name} is no JSON number")

    try:
        values = json.loads(body.decode("utf-8"), parse_constant=refuse_constant)
    except (ValueError, RecursionError) as error:
        why = _short(one_line(error), 100)
        raise Refusal(400, f'the body is no JSON ({why}): send {{"prompt": "..."}}.') from None
    if not isinstance(values, dict):
        raise Refusal(
            400, f"the body is a JSON {type(values).__name__}, but an object is needed: "
            'send {"prompt": "..."}.'
        )  # fmt: skip
    return values


def _check_types(values: dict[str, Any]) -> None:
    """Refuses unknown fields, for a misspelled one would silently do nothing, and wrong types."""
    for name, value in values.items():
        if name not in FIELDS:
            raise Refusal(400, f'the field "{_short(name)}" is unknown: use {", ".join(FIELDS)}.')
        wanted = FIELDS[name]
        if type(value) not in wanted:  # not isinstance: True would pass as the number 1
            raise Refusal(
                400, f'"{name}" must be {TYPE_NAMES[wanted[-1]]}, '
                f"but is {_short(json.dumps(value))}."
            )  # fmt: skip


def _encode(prompt: str, tokenizer: Tokenizer, most: int) -> list[int]:
    """Turns a prompt into tokens.

    Raises:
        Refusal: 422, it is empty, too long, or has a character that the vocabulary lacks.
    """
    if not prompt:
        raise Refusal(422, "the prompt is empty: there is nothing to continue. Send some text.")
    try:
        tokens = tokenizer.encode(prompt)
    except ValueError as error:
        raise Refusal(422, f"the prompt cannot be read: {one_line(error)}") from None
    if len(tokens) > most:
        raise Refusal(
            422, f"the prompt has {len(tokens)} tokens, but the server reads at most {most}: "
            "shorten it."
        )  # fmt: skip
    return tokens


def _short(value: object, length: int = SHOWN) -> str:
    """Returns a client's value as a short line: an answer must not repeat a megabyte."""
    text = " ".join(str(value).split())
    return text if len(text) <= length else text[:length] + "..."
