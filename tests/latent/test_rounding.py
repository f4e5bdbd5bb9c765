"""Products in bfloat16 in the importance weights: checked against float32, and left alone where they move the NLL."""

from typing import Any

import pytest
import torch
from oracle import LinearGaussian, VectorBatch
from torch import Tensor

from latent.measures import Refinement, Rounding, choose_rounding, encode_split, measure_split, summary
from latent.measures import rounding as module

CPU = torch.device("cpu")


class Products(LinearGaussian):
    """Its likelihood has a product that autocast rounds, with an error of −0.003 `scale` for each example."""

    def __init__(self, scale: float) -> None:
        super().__init__()
        self.scale = scale
        self.seen: set[torch.dtype] = set()

    def log_likelihood(self, z: Tensor, batch: VectorBatch) -> Tensor:
        product = torch.full((z.shape[0] * z.shape[1], 1), 1.003) @ torch.ones(1, 1)
        self.seen.add(product.dtype)
        rounded = (product.float() - 1.003).view(z.shape[:2])
        return super().log_likelihood(z, batch) + self.scale * rounded


@pytest.fixture(autouse=True)
def _fast_bf16(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "has_bf16_products", lambda: True)


def test_auto_takes_bf16_where_the_nll_stays() -> None:
    model = Products(scale=1.0)
    batch = model.draw(30)
    found = measure_split(model, [batch], CPU, 64, half_width=None, rows_at_once=1000, seed=0)
    exact = measure_split(model, [batch], CPU, 64, half_width=None, rows_at_once=1000, seed=0, precision="fp32")
    assert model.seen == {torch.float32, torch.bfloat16}
    assert found.rounding.precision == "bf16"
    assert 0 < found.rounding.bias <= module.TOLERANCE
    assert (exact.rounding.precision, exact.rounding.bias) == ("fp32", 0.0)
    moved = abs(found.weighted.estimate.value - exact.weighted.estimate.value)
    assert 0 < moved <= 1.01 * found.rounding.bias


def test_refined_posteriors_are_weighed_in_the_precision_that_was_chosen_once(monkeypatch: pytest.MonkeyPatch) -> None:
    chosen: list[Rounding] = []

    def counted(*arguments: Any) -> Rounding:
        chosen.append(choose_rounding(*arguments))
        return chosen[-1]

    monkeypatch.setattr(summary, "choose_rounding", counted)
    model = Products(scale=1.0)
    settings = {"half_width": None, "rows_at_once": 1000, "seed": 0}
    found = measure_split(model, [model.draw(30)], CPU, 8, refinement=Refinement(steps=1), **settings)
    assert found.refined is not None
    assert [found.rounding, found.refined[1].rounding] == chosen * 2
    assert chosen[0].precision == "bf16"


def test_auto_stays_in_fp32_where_bf16_moves_the_nll() -> None:
    model = Products(scale=100.0)
    batch = model.draw(30)
    terms = encode_split(model, [batch], CPU)
    assert choose_rounding(model, [batch], terms, CPU, "auto").precision == "fp32"
    asked = choose_rounding(model, [batch], terms, CPU, "bf16")
    assert asked.precision == "bf16"
    assert asked.bias > module.TOLERANCE


def test_auto_is_fp32_without_fast_products(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "has_bf16_products", lambda: False)
    model = Products(scale=1.0)
    batch = model.draw(5)
    assert choose_rounding(model, [batch], encode_split(model, [batch], CPU), CPU, "auto").precision == "fp32"
    assert model.seen == {torch.float32}


def test_a_likelihood_that_rounding_makes_infinite_is_left_in_fp32() -> None:
    model = Products(scale=float("inf"))  # inf × 0 is not a number in float32; the check must not pass on it
    batch = model.draw(5)
    split = encode_split(LinearGaussian(), [batch], CPU)
    assert choose_rounding(model, [batch], split, CPU, "auto").precision == "fp32"
