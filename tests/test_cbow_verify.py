"""The checks of the verify script: they pass, and each kind of broken training fails one."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch

from cbow import fast_rounds, fast_steps, readable_steps, train_state
from cbow import verify_embedding_updates as verify
from cbow.cbow_model import CBOW
from cbow.verify_embedding_updates import CHECKS, MEANINGS, forward_once, main, named_tensors


def failed(checks: Callable[[], float]) -> bool:
    """Tells whether one check fails."""
    (tolerance,) = [allowed for check, allowed in CHECKS if check is checks]
    return not checks() <= tolerance


def test_all_checks_pass(capsys: pytest.CaptureFixture[str]) -> None:
    assert main([]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == len(CHECKS) and all(line.startswith("PASS") for line in lines)


def test_the_ledger_names_every_tensor(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--trace"]) == 0
    ledger = capsys.readouterr().out
    assert set(named_tensors()) == set(MEANINGS)
    assert all(meaning in ledger for meaning in MEANINGS.values())
    assert forward_once() == "losses (14,)"


def test_a_training_that_does_nothing_fails(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(verify, "change_input", lambda *_: None)
    assert failed(verify.check_rows_that_change) and failed(verify.check_three_words_by_hand)
    monkeypatch.setattr(fast_rounds, "change_input", lambda *_: None)
    monkeypatch.setattr(fast_rounds, "change_output", lambda *_: None)
    assert failed(verify.check_learning) and failed(verify.check_fast_is_readable)


def test_a_step_that_touches_other_rows_fails(monkeypatch: pytest.MonkeyPatch) -> None:
    def decay(model: CBOW, *_: object) -> float:
        with torch.no_grad():
            model.input *= 0.99
        return 0.0

    monkeypatch.setattr(verify, "readable_step", decay)
    assert failed(verify.check_rows_that_stay)


def test_a_forgotten_share_of_the_gradient_fails(monkeypatch: pytest.MonkeyPatch) -> None:
    def whole(inside: torch.Tensor, _: object) -> tuple[torch.Tensor, torch.Tensor]:
        ones = inside.float()
        return ones / fast_steps.context_counts(inside), ones

    monkeypatch.setattr(fast_rounds, "context_weights", whole)
    monkeypatch.setattr(verify, "context_weights", whole)
    assert failed(verify.check_three_words_by_hand) and failed(verify.check_fast_is_readable)


def test_a_rate_that_stays_fails(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(train_state.TrainState, "rate", lambda self, share: self.config.lr)
    assert failed(verify.check_rate_falls)


def test_the_readable_step_returns_the_mean_loss() -> None:
    model, batch = verify.toy_model(), verify.toy_batch()
    with torch.no_grad():
        expected = model(batch)[batch.has_context].mean().item()
    assert readable_steps.readable_step(model, [batch], 0.0) == pytest.approx(expected)
