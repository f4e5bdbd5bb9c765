"""An objective whose loss is not a number at some steps."""

import math
from typing import Any

import pytest

from latent.bound import ElboObjective, ElboTerms, Loss


def spoil(monkeypatch: pytest.MonkeyPatch, steps: tuple[int, ...]) -> None:
    """Let the objective and what it carries on be no numbers at steps of these indices."""
    whole = ElboObjective.__call__

    def spoiled(objective: ElboObjective, terms: ElboTerms, step: int, feedback: Any = None) -> Loss:
        loss = whole(objective, terms, step, feedback or {})
        if step not in steps:
            return loss
        logged = {**loss.logged, "loss": loss.value.detach() * math.nan}
        return Loss(loss.value * math.nan, logged, {name: value * math.nan for name, value in loss.feedback.items()})

    monkeypatch.setattr(ElboObjective, "__call__", spoiled)
