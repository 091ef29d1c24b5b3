"""The chat template: how a conversation becomes a row of tokens, and which of them are trained on.

A conversation is ``<user>request<assistant>reply<end>``, turn after turn. Only the replies and
their end tokens are trained on: the model shall learn to answer, not to ask. What is trained is
marked by position, never by comparing ids: then padding can have any id, and no end token is lost
with it. (Many a code base uses one id for both, masks all of it, and its models never stop.)
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import groupby

import torch
from torch import Tensor

from tutorial_kit.tokenizers import Tokenizer
from tutorial_kit.word_tokenizer import CHAT_TOKENS

Message = Mapping[str, str]
"""One turn: ``{"role": "user" or "assistant", "content": text}``."""

Row = tuple[list[int], list[bool]]
"""The ids of a conversation, and for each whether it is trained on."""

PAD, USER, ASSISTANT, END = CHAT_TOKENS
ROLES = ("user", "assistant")
GREEN, DIM, PLAIN = "\033[32m", "\033[2m", "\033[0m"


def chat_tokens(tokenizer: Tokenizer) -> dict[str, int]:
    """Returns the ids of ``<pad>``, ``<user>``, ``<assistant>`` and ``<end>``.

    Raises:
        ValueError: the tokenizer lacks one of them, so its model was not made for chats.
    """
    missing = [name for name in CHAT_TOKENS if name not in tokenizer.special_tokens]
    if missing:
        raise ValueError(
            f"the tokenizer has no {', '.join(missing)}: the chat template cannot be written "
            "with it. Use a base model that instruction_tuning/base_model.py trained."
        )
    return {name: tokenizer.special_tokens[name] for name in CHAT_TOKENS}


def encode_chat(
    messages: Sequence[Message], tokenizer: Tokenizer, max_len: int | None = None
) -> Row:
    """Turns a conversation into ids and says which of them are trained on.

    Args:
        messages: user and assistant in turn; the user begins, the assistant has the last word.
        tokenizer: one with the chat's special tokens.
        max_len: the model's context window, tokens; None checks no length.

    Returns:
        ids (T tokens) and loss_mask: True for the tokens of a reply and the ``<end>`` behind it.

    Raises:
        ValueError: the turns are out of order; the prompt leaves no room for a reply; the last
            reply has no room for its end token.

    >>> from tutorial_kit.word_tokenizer import WordTokenizer
    >>> tokenizer = WordTokenizer(["spell", " backwards"])
    >>> turns = [{"role": "user", "content": "spell kap backwards"},
    ...          {"role": "assistant", "content": "pak"}]
    >>> print(show_mask(*encode_chat(turns, tokenizer), tokenizer, color=False))
    <user>spell kap backwards<assistant>[pak<end>]
    """
    _check_turns(messages, last="assistant")
    ids, mask = _encode_turns(messages, tokenizer)
    reply = len(tokenizer.encode(messages[-1]["content"]))
    prompt = len(ids) - reply - 1  # with the <assistant> behind which the reply begins
    _check_room(prompt, max_len)
    if max_len is not None and len(ids) > max_len:
        raise ValueError(
            f"the reply's {reply} tokens and its {END} do not fit behind a prompt of {prompt}: the "
            f"context has {max_len}, and without {END} the model would never learn to stop. "
            "Shorten the reply, or train a base with a larger max_len."
        )
    return ids, mask


def encode_prompt(
    messages: Sequence[Message] | str, tokenizer: Tokenizer, max_len: int | None = None
) -> list[int]:
    """Returns the ids of everything up to the ``<assistant>`` behind which the reply begins.

    Args:
        messages: the turns so far, the last one the user's; or the user's text alone.
        tokenizer: one with the chat's special tokens.
        max_len: the model's context window, tokens; None checks no length.

    Raises:
        ValueError: the turns are out of order, or leave no room for a reply.
    """
    if isinstance(messages, str):
        messages = [{"role": "user", "content": messages}]
    _check_turns(messages, last="user")
    ids = [*_encode_turns(messages, tokenizer)[0], chat_tokens(tokenizer)[ASSISTANT]]
    _check_room(len(ids), max_len)
    return ids


def _encode_turns(messages: Sequence[Message], tokenizer: Tokenizer) -> Row:
    """Returns ids and loss mask of turns: of a reply all is trained but the role's own token."""
    special = chat_tokens(tokenizer)
    ids: list[int] = []
    mask: list[bool] = []
    for message in messages:
        text = tokenizer.encode(message["content"])
        if message["role"] == "user":
            ids += [special[USER], *text]
            mask += [False] * (1 + len(text))
        else:
            ids += [special[ASSISTANT], *text, special[END]]
            mask += [False, *[True] * (len(text) + 1)]
    return ids, mask


def _check_room(prompt: int, max_len: int | None) -> None:
    """Refuses a prompt behind which not one token of a reply has room.

    Raises:
        ValueError: so many tokens fill the context.
    """
    if max_len is not None and prompt > max_len - 1:
        raise ValueError(
            f"the prompt has {prompt} tokens, but the model's context has {max_len}: no room is "
            "left for a reply. Shorten the request, or train a base with a larger max_len."
        )


def _check_turns(messages: Sequence[Message], last: str) -> None:
    """Refuses turns that are no conversation.

    Raises:
        ValueError: a turn lacks its role or text, or the turns do not alternate up to ``last``.
    """
    for number, message in enumerate(messages, start=1):
        if not isinstance(message.get("role"), str) or not isinstance(message.get("content"), str):
            raise ValueError(
                f"turn {number} has the fields {', '.join(message) or 'none'}: a turn is a role "
                'and a text. Write {"role": "user", "content": "..."}.'
            )
    roles = [message["role"] for message in messages]
    for number, role in enumerate(roles):
        if role != ROLES[number % 2]:
            raise ValueError(
                f"turn {number + 1} is by {role!r}, but the template wants {ROLES[number % 2]!r} "
                "there: user and assistant take turns, and the user begins. Reorder the messages."
            )
    if not roles or roles[-1] != last:
        raise ValueError(
            f"the conversation has {len(roles)} turns and must end with one by {last!r}: "
            f"{'there is no reply to learn from' if last == 'assistant' else 'nothing is asked'}. "
            "Add that turn."
        )


@dataclass(frozen=True)
class ChatBatch:
    """A minibatch of conversations, each padded on the right to the longest."""

    tokens: Tensor  # (B, T), ids
    loss_mask: Tensor  # (B, T), bool: True where the token is trained on; False for padding

    @property
    def lengths(self) -> Tensor:
        """(B,), tokens of each row without padding: a conversation ends with a trained token."""
        steps = torch.arange(1, self.tokens.shape[1] + 1, device=self.tokens.device)  # (T,)
        return (self.loss_mask * steps).amax(dim=1)

    def to(self, device: torch.device | str) -> ChatBatch:
        """Returns the minibatch on a device."""
        return ChatBatch(self.tokens.to(device), self.loss_mask.to(device))

    def rows(self, part: slice | Tensor) -> ChatBatch:
        """Returns some rows, still padded to the same length."""
        return ChatBatch(self.tokens[part], self.loss_mask[part])


def make_batch(rows: Sequence[Row], pad: int) -> ChatBatch:
    """Pads conversations, as `encode_chat` returns them, to a minibatch."""
    mask = pad_right([[int(trained) for trained in mask] for _, mask in rows], 0)
    return ChatBatch(pad_right([ids for ids, _ in rows], pad), mask.bool())


def pad_right(rows: Sequence[Sequence[int]], pad: int) -> Tensor:
    """Returns (B, T): each row from position 0 on, then ``pad``."""
    width = max(map(len, rows))
    return torch.tensor([[*row, *[pad] * (width - len(row))] for row in rows], dtype=torch.long)


def pad_left(rows: Sequence[Sequence[int]], pad: int) -> Tensor:
    """Returns (B, T): ``pad``, then each row, so that all rows end in the last column.

    Generation likes this form: the next token of every row has the same place. But a row's first
    token no longer has position 0; see `left_to_right`.
    """
    width = max(map(len, rows))
    return torch.tensor([[*[pad] * (width - len(row)), *row] for row in rows], dtype=torch.long)


def left_to_right(tokens: Tensor, lengths: Tensor) -> Tensor:
    """Moves each row of a left-padded minibatch to position 0; its padding goes behind it.

    A model that numbers positions by column would read a left-padded row at positions that it was
    not trained on, and would attend to the padding before it. Behind the row, under a causal mask,
    no real token can see the padding.

    Args:
        tokens: (B, T), padded on the left.
        lengths: (B,), tokens of each row without padding.

    Returns:
        (B, T), padded on the right.
    """
    width = tokens.shape[1]
    columns = torch.arange(width, device=tokens.device)  # (T,)
    sources = (columns + (width - lengths)[:, None]) % width  # (B, T)
    return tokens.gather(1, sources)


def show_mask(
    ids: Sequence[int], mask: Sequence[bool], tokenizer: Tokenizer, color: bool = True
) -> str:
    """Returns the text of a row with the trained tokens in green and the others dim.

    Args:
        ids: T tokens.
        mask: T times whether the token is trained on.
        tokenizer: what the ids were made with.
        color: False puts the trained tokens in brackets instead, for files and pipes.
    """
    text = ""
    for trained, run in groupby(zip(ids, mask, strict=True), key=lambda pair: pair[1]):
        words = tokenizer.decode([token for token, _ in run])
        if color:
            text += f"{GREEN if trained else DIM}{words}{PLAIN}"
        else:
            text += f"[{words}]" if trained else words
    return text
