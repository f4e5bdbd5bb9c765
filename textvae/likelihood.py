"""Of what a text model has a likelihood, and what it is given instead of learning it."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import ClassVar, Literal

from torch import Tensor

from corpora import Splits

Likelihood = Literal["words", "vectors", "none"]

INSTEAD = "compare by BLEU, exact matches and retrieval accuracy"
REMARKS: Mapping[Likelihood, tuple[str, ...]] = {
    "words": (),
    "vectors": (
        "NLL, −ELBO, reconstruction and gains are of a density of vectors, not of a probability of words: they are not "
        f"comparable with those of softmax models, and there is no PPL; {INSTEAD}",
    ),
    "none": (
        "the loss is no likelihood: there is no NLL, −ELBO or PPL, and reconstruction and gains are in units of the "
        f"loss, not nats; {INSTEAD}",
    ),
}


@dataclass(frozen=True)
class Given:
    """What a model is given: tensors by their names in its state, and what to know of them, a line each."""

    tensors: Mapping[str, Tensor] = field(default_factory=dict)
    notes: tuple[str, ...] = ()


class OfWords:
    """What the config of a model says whose likelihood is a probability of words, and which learns all that it has."""

    likelihood: ClassVar[Likelihood] = "words"
    given: ClassVar[tuple[str, ...]] = ()  # the names, in the model's state, of what `read_given` gives

    def check(self) -> None:
        """Nothing outside the recipe and its corpus is needed."""

    def check_length(self, max_length: int) -> None:
        """Sentences of any length can be scored and written."""

    def read_given(self, splits: Splits) -> Given:
        """Nothing."""
        return Given()


def why_not_comparable(one: Likelihood, other: Likelihood, *, same_space: bool) -> tuple[str, ...]:
    """Why two likelihoods of the same sentences may not be subtracted: nothing where they may."""
    if one != other:
        meaning = {"words": "a probability of words", "vectors": "a density of vectors", "none": "no likelihood at all"}
        return (f"{meaning[one]} against {meaning[other]}; {INSTEAD}",)
    if one == "none":
        return (f"neither has a likelihood; {INSTEAD}",)
    if not same_space:
        return (f"densities of vectors in different spaces; {INSTEAD}",)
    return ()
