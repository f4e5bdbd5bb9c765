"""`kind: grammar`: sentences drawn from the grammar, whose probabilities are known exactly."""

import hashlib
import json
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from itertools import islice
from typing import Annotated, Literal

import numpy as np
from jaxtyping import Float64
from pydantic import Field, PositiveInt

from corpora.grammar.english import FACTORS, english, factors
from corpora.grammar.pcfg import Derivation
from corpora.texts import BLOCK_LINES, SPLITS, Block, Blocks, LineBlock, MaxLength
from corpora.tokenizer import TokenizerConfig

_VERSION = 1  # of the sampling; raise it when it changes, or old caches are taken for new
_TOKEN_OF_ITS_OWN = re.compile(r"(n't\b|'s\b|[,.?!])")


@dataclass(frozen=True, kw_only=True)
class Grammar:
    """Independent sentences of a probabilistic grammar of English, lower-cased, marks as tokens; labels: clause types.

    `english().log_probs` has the exact probability of each. Sentences are drawn, not cut from one text: the splits
    share the short ones, as independent draws do, and leaving these out would change the distribution.
    """

    kind: Literal["grammar"] = "grammar"
    num_train: PositiveInt = 40_000
    num_valid: PositiveInt = 2_000
    num_test: PositiveInt = 2_000
    seed: Annotated[int, Field(ge=0)] = 0
    tokenizer: TokenizerConfig = field(default_factory=TokenizerConfig)
    max_length: MaxLength = 60

    def fingerprint(self) -> str:
        """A digest of the grammar, and what is drawn from it."""
        digest = hashlib.sha256()
        for alternatives in english().rules.values():
            for rule in alternatives:
                digest.update(json.dumps([rule.left, rule.right, rule.probability, rule.factors]).encode())
        return json.dumps([self.kind, _VERSION, digest.hexdigest(), *self._sizes().values(), self.seed])

    def resolved(self) -> "Grammar":
        """The same corpus wherever it is asked for."""
        return self

    def log_probs(self, texts: Sequence[str]) -> Float64[np.ndarray, " N"]:
        """What log p(x) truly is, in nats: the grammar's own probability of each sentence."""
        return english().log_probs(texts)

    def normalise(self, text: str) -> str:
        """A user's sentence in the corpus' own form: lower case, marks and contractions as tokens."""
        return " ".join(_TOKEN_OF_ITS_OWN.sub(r" \1 ", text.lower()).split())

    def read(self) -> Blocks:
        """The splits as text. Raises ValueError where `max_length` could cut a sentence."""
        self._check_max_length()
        return Blocks(self._blocks)

    def factors(self) -> dict[str, dict[str, list[str]]]:
        """For each split and each of `FACTORS`, the value of every sentence, in the order of `read`."""
        found = {name: [factors(d) for d in derivations] for name, derivations in self._draw().items()}
        return {name: {factor: [row[factor] for row in rows] for factor in FACTORS} for name, rows in found.items()}

    def _sizes(self) -> dict[str, int]:
        return dict(zip(SPLITS, (self.num_train, self.num_valid, self.num_test), strict=True))

    def _blocks(self) -> Iterator[Block]:
        for name, derivations in self._draw().items():
            for first_line in range(1, self._sizes()[name] + 1, BLOCK_LINES):
                drawn = list(islice(derivations, BLOCK_LINES))
                yield LineBlock(
                    split=name,
                    source=f"grammar ({name})",
                    lines=[" ".join(derivation.words) for derivation in drawn],
                    labels=[derivation.rules[0].factors["clause_type"] for derivation in drawn],
                    first_line=first_line,
                )

    def _draw(self) -> dict[str, Iterator[Derivation]]:
        """Each split has a stream of its own, so that its first sentences do not depend on any size."""
        return {
            name: english().sample(size, np.random.Generator(np.random.PCG64((self.seed, number))))
            for number, (name, size) in enumerate(self._sizes().items())
        }

    def _check_max_length(self) -> None:
        """A sentence that is cut has no exact probability, so none may be."""
        is_word = self.tokenizer.kind == "word"
        longest = english().longest(lambda word: 1 if is_word else len(word) + 1) + 1  # pieces: characters and a blank
        if self.max_length < longest:
            raise ValueError(
                f"corpus.max_length: {self.max_length} could cut a sentence, which then has no exact probability; "
                f"set it to {longest} or more (with tokenizer kind {self.tokenizer.kind})"
            )
