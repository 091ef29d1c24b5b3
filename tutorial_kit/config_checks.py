"""The checks that the settings of every family need, for ``__post_init__``, each with its remedy.

Standard library only, like ``config.py``.
"""

from __future__ import annotations


def check_counts(config: object, *names: str) -> None:
    """Refuses a field below 1.

    Args:
        config: the settings.
        names: the fields, in the order in which they are checked; so everywhere below.

    Raises:
        ValueError: a field is 0 or less.
    """
    for name in names:
        if getattr(config, name) < 1:
            raise ValueError(f"{name}={getattr(config, name)} is not possible. Use 1 or more.")


def check_not_negative(config: object, *names: str) -> None:
    """Refuses a field below 0, for fields whose 0 means "none".

    Raises:
        ValueError: a field is below 0.
    """
    for name in names:
        if getattr(config, name) < 0:
            raise ValueError(f"{name}={getattr(config, name)} is below 0. Use 0 or more.")


def check_learning_rates(config: object, *names: str) -> None:
    """Refuses a learning rate that is not above 0.

    Raises:
        ValueError: a field is 0 or less.
    """
    for name in names:
        if getattr(config, name) <= 0:
            raise ValueError(f"{name}={getattr(config, name)} learns nothing. Use more than 0.")


def check_shares(config: object, *names: str) -> None:
    """Refuses a field outside 0 to 1.

    Raises:
        ValueError: a field is below 0 or above 1.
    """
    for name in names:
        if not 0 <= getattr(config, name) <= 1:
            raise ValueError(f"{name}={getattr(config, name)} is no share. Use 0 to 1.")


def check_shares_below_one(config: object, *names: str) -> None:
    """Refuses a field outside 0 to 1, and 1 itself, with which nothing would be left.

    Raises:
        ValueError: a field is below 0, or 1 or more.
    """
    for name in names:
        if not 0 <= getattr(config, name) < 1:
            raise ValueError(
                f"{name}={getattr(config, name)} is no share below 1. Use 0 or more and less "
                "than 1."
            )


def check_heads(d_model: int, n_heads: int) -> None:
    """Refuses a width D that the heads cannot share out among them.

    Raises:
        ValueError: ``d_model`` is not divisible by ``n_heads``.

    >>> check_heads(130, 4)
    Traceback (most recent call last):
    ValueError: d_model=130 is not divisible by n_heads=4: each head would get 32.5 numbers. \
Use d_model=128, or a number of heads that divides it.
    """
    if d_model % n_heads:
        share = d_model / n_heads
        near = max(1, round(share)) * n_heads
        raise ValueError(
            f"d_model={d_model} is not divisible by n_heads={n_heads}: each head would get "
            f"{share:.4g} numbers. Use d_model={near}, or a number of heads that divides it."
        )
