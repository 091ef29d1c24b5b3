"""Settings: frozen dataclasses that become a command line and JSON without being written twice.

A config is a frozen dataclass. Each field has a comment at the end of its line; that comment is the
help text of the flag derived from the field. A field that is itself a dataclass is flattened:
``TrainConfig.model.d_model`` becomes ``--d-model``. ``PRESETS`` are named instances; ``--preset``
picks one and every other flag overrides one field of it.
"""

from __future__ import annotations

import argparse
import dataclasses
import inspect
import re
import types
import typing
from collections.abc import Iterator, Mapping
from typing import Any, Literal, TypeVar

from tutorial_kit.console import OneLineParser

Config = TypeVar("Config")


def config_parser(
    config_type: type, presets: Mapping[str, Any], default_preset: str, description: str
) -> argparse.ArgumentParser:
    """Builds the command line of a config.

    Args:
        config_type: a frozen dataclass; nested dataclasses are flattened.
        presets: name -> instance of ``config_type``.
        default_preset: the preset used when ``--preset`` is not given.
        description: what the script does, in one sentence.

    Returns:
        A parser with ``--preset`` and one flag per field. An error prints one line and exits with
        2.

    Raises:
        TypeError: two fields have the same name, or a field's type has no flag.
    """
    parser = OneLineParser(
        description=description, formatter_class=argparse.ArgumentDefaultsHelpFormatter
    )
    parser.add_argument(
        "--preset", choices=list(presets), default=default_preset, help="named settings"
    )
    group = parser.add_argument_group("settings that override the preset")
    seen: dict[str, str] = {}
    for path, field, annotation, comment in _flat_fields(config_type):
        if field.name in seen:
            raise TypeError(f"{path} and {seen[field.name]} would both be --{field.name}")
        seen[field.name] = path
        flag = "--" + field.name.replace("_", "-")
        group.add_argument(
            flag, dest=field.name, default=argparse.SUPPRESS, help=comment, **_flag(annotation)
        )
    return parser


def read_config(
    config_type: type[Config], presets: Mapping[str, Config], args: argparse.Namespace
) -> Config:
    """Turns parsed arguments into a validated config: the preset, then the flags given.

    Raises:
        ValueError: from the config's own validation.
    """
    return override(presets[args.preset], vars(args))


def override(config: Config, values: Mapping[str, Any]) -> Config:
    """Returns a copy of ``config`` with fields named in ``values`` replaced, nested ones too."""
    changes: dict[str, Any] = {}
    for field in dataclasses.fields(config):  # type: ignore[arg-type]
        current = getattr(config, field.name)
        if dataclasses.is_dataclass(current):
            changes[field.name] = override(current, values)
        elif field.name in values:
            changes[field.name] = values[field.name]
    return dataclasses.replace(config, **changes)  # type: ignore[type-var]


def config_to_dict(config: Any) -> dict[str, Any]:
    """Returns plain types only, ready for JSON and for a checkpoint."""
    return dataclasses.asdict(config)


def config_from_dict(config_type: type[Config], values: Mapping[str, Any]) -> Config:
    """Rebuilds a config from ``config_to_dict``.

    Raises:
        ValueError: an unknown or missing field (a newer or foreign file), named in the text.
    """
    hints = typing.get_type_hints(config_type)
    fields = {field.name: field for field in dataclasses.fields(config_type)}  # type: ignore[arg-type]
    unknown = sorted(set(values) - set(fields))
    if unknown:
        raise ValueError(
            f"{config_type.__name__} has no field {unknown[0]!r}: the settings were written by "
            "another version of this project. Use that version, or train again."
        )
    missing = sorted(
        name
        for name, field in fields.items()
        if name not in values
        and field.default is dataclasses.MISSING
        and field.default_factory is dataclasses.MISSING
    )
    if missing:
        raise ValueError(
            f"{config_type.__name__} needs the field {missing[0]!r}, which the settings lack: "
            "they were written by another version of this project. Train again."
        )
    arguments = {
        name: config_from_dict(hints[name], value)
        if dataclasses.is_dataclass(hints[name])
        else (tuple(value) if isinstance(value, list) else value)
        for name, value in values.items()
    }
    return config_type(**arguments)


def _flat_fields(
    config_type: type, prefix: str = ""
) -> Iterator[tuple[str, dataclasses.Field[Any], Any, str]]:
    """Yields (dotted path, field, type, comment) of every leaf field."""
    hints = typing.get_type_hints(config_type)
    comments = _field_comments(config_type)
    for field in dataclasses.fields(config_type):
        annotation = hints[field.name]
        if dataclasses.is_dataclass(annotation):
            yield from _flat_fields(typing.cast(type, annotation), f"{prefix}{field.name}.")
        else:
            yield prefix + field.name, field, annotation, comments.get(field.name, "")


def _field_comments(config_type: type) -> dict[str, str]:
    """Reads the comment that ends each field's line in the source, inherited ones too."""
    settings = [base for base in reversed(config_type.__mro__) if dataclasses.is_dataclass(base)]
    lines = [line for base in settings for line in inspect.getsource(base).splitlines()]
    pattern = re.compile(r"^    (\w+)\s*:.*?#\s*(.+)$")
    matches = filter(None, map(pattern.match, lines))
    # argparse formats help with %, so a percent sign in a comment is doubled.
    return {match[1]: match[2].replace("%", "%%") for match in matches}


def _flag(annotation: Any) -> dict[str, Any]:
    """Returns the argparse options for a field's type."""
    origin, arguments = typing.get_origin(annotation), typing.get_args(annotation)
    if origin in (typing.Union, types.UnionType):  # `int | None`: the word none means None
        (inner,) = [argument for argument in arguments if argument is not type(None)]
        convert = _flag(inner)["type"]

        def optional(text: str) -> Any:
            return None if text.lower() == "none" else convert(text)

        optional.__name__ = convert.__name__  # argparse puts this name into its error text
        return {"type": optional, "metavar": inner.__name__.upper()}
    if origin is Literal:
        return {"choices": list(arguments)}
    if annotation is bool:
        return {"action": argparse.BooleanOptionalAction}
    if annotation in (int, float, str):
        return {"type": annotation, "metavar": annotation.__name__.upper()}
    raise TypeError(f"no command-line flag is known for the type {annotation}")
