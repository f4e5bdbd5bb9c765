"""Which operators a step and an evaluation run, and how many: what no other load on the machine changes.

An operator that reads a value back, or whose result is as large as values say, makes the host wait for a GPU; one that
makes no view is a kernel to be launched there, or a few. Counted on a CPU, whose own kernels are other ones, but not
more or fewer for what is written in Python.
"""

from collections import Counter
from pathlib import Path
from typing import Any

import pytest
import torch
from tiny import tiny_image_recipe, tiny_recipe, write_corpus
from torch.utils._python_dispatch import TorchDispatchMode

from imagevae.side import IMAGE
from latent.bound import Batch
from latent.measures.split import evaluating
from latent.training import TrainState, build_state, list_recipes
from latent.training.recipe import Recipe
from latent.training.updates import Batches
from textvae.side import TEXT

# exactly those of torch 2.13 on a CPU with oneDNN, so that one more fails; who adds some says here what for
STEP, EVALUATION = 192, 100

WAITING = {
    "_local_scalar_dense",  # .item(), float(), bool(), a Python `if` on a tensor
    "nonzero",
    "masked_select",
    "equal",
    "_unique2",
    "unique_dim",
    "unique_consecutive",
}


BY_NATURE = {
    "lagging2019": "the encoder is stepped until the bound stops rising",
    "vmf2018": "a draw is proposed until it is accepted",
    "digits_cvae": "one_hot looks at the labels, on a CPU alone",
    "mnist_cvae_conv": "one_hot looks at the labels, on a CPU alone",
    "mnist_cvae": "one_hot looks at the labels, on a CPU alone",
}


class Operators(TorchDispatchMode):
    """What runs below autograd: the number of each operator but the views, and those that would wait for a GPU."""

    def __init__(self) -> None:
        super().__init__()
        self.counts: Counter[str] = Counter()
        self.waiting: list[str] = []

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if waits(func, args, kwargs or {}):
            self.waiting.append(str(func))
        if func.namespace == "aten" and not func.is_view:
            self.counts[str(func)] += 1
        return func(*args, **(kwargs or {}))


def waits(func: Any, args: tuple[Any, ...], settings: dict[str, Any]) -> bool:
    """Whether the host would have to know values that are on the device."""
    name = func.overloadpacket.__name__
    if name == "repeat_interleave":
        return func._overloadname == "Tensor" and settings.get("output_size") is None
    if name in ("index", "index_put", "index_put_", "_index_put_impl_"):
        return any(index is not None and index.dtype in (torch.bool, torch.uint8) for index in args[1])
    return name in WAITING


def prepared(recipe: Recipe[Any, Any, Any], side: Any) -> tuple[TrainState, Batches]:
    """After a first step, which makes the optimizer's moments."""
    material = side.read(recipe, None)
    state, batches = build_state(material, recipe.train), material.training_data().batches
    recipe.update.prepare(state)
    recipe.update(state, batches, recipe.objective)
    state.step += 1
    return state, batches


def of_a_step(recipe: Recipe[Any, Any, Any], side: Any) -> Operators:
    state, batches = prepared(recipe, side)
    with Operators() as found:
        recipe.update(state, batches, recipe.objective)
    return found


def test_what_would_wait_is_seen() -> None:
    x = torch.arange(4.0)
    for call in (
        lambda: x[x > 1],
        lambda: x.max().item(),
        lambda: bool(x.sum() > 1),
        lambda: x.masked_select(x > 1),
        lambda: x.repeat_interleave(torch.tensor([1, 0, 2, 1])),
        lambda: x.clone().index_put_((x > 1,), torch.tensor(0.0)),
    ):
        with Operators() as found:
            call()
        assert len(found.waiting) >= 1
    with Operators() as found:
        x[torch.tensor([1, 2])], x.index_select(0, torch.tensor([1])), x.repeat_interleave(2), x[1:].mean()
    assert found.waiting == []
    assert set(found.counts) >= {"aten.index.Tensor", "aten.index_select.default", "aten.mean.default"}
    assert "aten.slice.Tensor" not in found.counts


@pytest.mark.parametrize("name", [recipe.name for recipe in list_recipes([TEXT.folder])])
def test_no_step_on_sentences_waits_for_the_device(name: str, tmp_path: Path) -> None:
    found = of_a_step(tiny_recipe(write_corpus(tmp_path), recipe=name), TEXT)
    assert bool(found.waiting) == (name in BY_NATURE), found.waiting


@pytest.mark.parametrize("name", [recipe.name for recipe in list_recipes([IMAGE.folder])])
def test_no_step_on_images_waits_for_the_device(name: str) -> None:
    found = of_a_step(tiny_image_recipe(name), IMAGE)
    assert bool(found.waiting) == (name in BY_NATURE), found.waiting


on_cpu = pytest.mark.skipif(
    torch.cuda.is_available() or not torch.backends.mkldnn.is_available(), reason="counted on a CPU with oneDNN"
)


@on_cpu
@pytest.mark.parametrize("tokens_per_batch", [96, 480])
def test_a_step_runs_so_many_operators_whatever_its_size(tokens_per_batch: int, tmp_path: Path) -> None:
    recipe = tiny_recipe(write_corpus(tmp_path), f"train.tokens_per_batch={tokens_per_batch}", recipe="plain")
    found = of_a_step(recipe, TEXT)
    assert found.counts.total() <= STEP, found.counts


@on_cpu
@pytest.mark.parametrize("tokens_per_batch", [96, 480])
def test_an_evaluation_runs_so_many_operators_whatever_its_size(tokens_per_batch: int, tmp_path: Path) -> None:
    recipe = tiny_recipe(write_corpus(tmp_path), f"train.tokens_per_batch={tokens_per_batch}", recipe="plain")
    state, batches = prepared(recipe, TEXT)
    batch: Batch = batches[0]
    with evaluating(state.model, 0), Operators() as found:
        state.model(batch)
    assert found.waiting == []
    assert found.counts.total() <= EVALUATION, found.counts
