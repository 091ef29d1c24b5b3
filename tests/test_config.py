"""Settings: dataclass, command line and JSON say the same."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

import pytest

from tutorial_kit.config import config_from_dict, config_parser, config_to_dict, read_config


@dataclass(frozen=True)
class Inner:
    d_model: int = 8  # width
    kind: Literal["a", "b"] = "a"  # which kind


@dataclass(frozen=True)
class Outer:
    inner: Inner = field(default_factory=Inner)
    lr: float = 0.1  # learning rate, 100 % of it
    limit: int | None = None  # most items
    verbose: bool = False  # say more

    def __post_init__(self) -> None:
        if self.lr <= 0:
            raise ValueError("lr must be positive")


PRESETS = {"small": Outer(), "large": Outer(inner=Inner(d_model=64), lr=0.5)}


def read(*argv: str) -> Outer:
    parser = config_parser(Outer, PRESETS, "small", "a test")
    return read_config(Outer, PRESETS, parser.parse_args(argv))


def test_flags_override_the_preset_and_nested_fields() -> None:
    config = read("--preset", "large", "--kind", "b", "--limit", "3", "--verbose")
    assert config == Outer(Inner(64, "b"), 0.5, 3, True)
    assert read("--limit", "none").limit is None
    assert read() == Outer()


def test_help_is_the_field_comment(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as leave:
        read("--help")
    assert leave.value.code == 0
    assert "learning rate, 100 % of it" in capsys.readouterr().out


@pytest.mark.parametrize(
    "argv", [["--preset", "huge"], ["--kind", "c"], ["--lr", "fast"], ["--unknown", "1"]]
)
def test_a_wrong_flag_is_one_line_and_exit_code_2(
    argv: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as leave:
        read(*argv)
    output = capsys.readouterr()
    assert leave.value.code == 2 and output.out == ""
    assert output.err.count("\n") == 1 and output.err.startswith("error: ")


def test_validation_runs_on_the_command_line() -> None:
    with pytest.raises(ValueError, match="lr must be positive"):
        read("--lr", "-1")


def test_json_round_trip_and_foreign_fields() -> None:
    config = PRESETS["large"]
    assert config_from_dict(Outer, config_to_dict(config)) == config
    with pytest.raises(ValueError, match="no field 'future'"):
        config_from_dict(Outer, {"future": 1})
    with pytest.raises(ValueError, match="no field 'x'"):
        config_from_dict(Outer, {"inner": {"x": 1}})


def test_two_fields_of_one_name_are_refused() -> None:
    @dataclass(frozen=True)
    class Clash:
        inner: Inner = field(default_factory=Inner)
        d_model: int = 1  # the same flag as inner.d_model

    Clash.__annotations__.update(inner=Inner, d_model=int)
    with pytest.raises(TypeError, match="d_model"):
        config_parser(Clash, {}, "none", "a test")
