"""Finite probabilistic context-free grammars: sampling, the inside algorithm, entropy."""

import bisect
import functools
import itertools
import math
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from graphlib import CycleError, TopologicalSorter

import numpy as np
from jaxtyping import Float64

_SCALE = 256.0  # each word's factor in the inside algorithm, against underflow; a power of two costs no precision
_UNIFORMS = 4096  # drawn at a time


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Rule:
    """`left` becomes the symbols of `right` with a probability: nonterminals, which are left sides too, and words.

    `factors` are what the choice of this rule says about the sentence, such as its tense.
    """

    left: str
    right: tuple[str, ...]
    probability: float
    factors: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Derivation:
    """A sentence and the rules that made it, in the order of the leftmost derivation."""

    words: tuple[str, ...]
    rules: tuple[Rule, ...]

    @property
    def log_prob(self) -> float:
        """log p(derivation) in nats, at most log p(sentence)."""
        return math.fsum(math.log(rule.probability) for rule in self.rules)


class Pcfg:
    """A distribution over sentences: p(sentence) is the sum of p(derivation) over all derivations that yield it.

    No symbol may derive itself, so that there are finitely many sentences, their probabilities add up to 1, and
    expectations over all derivations are exact recursions over the symbols.

    Arguments:
        rules: their probabilities add up to 1 for each left side.
        start: the symbol that every derivation starts from.

    Raises:
        ValueError: for an improper grammar, an empty right side, an unreachable symbol, or one that derives itself.
    """

    def __init__(self, rules: Iterable[Rule], start: str) -> None:
        self.start = start
        self.rules: dict[str, list[Rule]] = {}
        for rule in rules:
            self.rules.setdefault(rule.left, []).append(rule)
        self.symbols = self._bottom_up()
        self._check()
        self._thresholds = {
            symbol: list(itertools.accumulate(rule.probability for rule in alternatives[:-1]))
            for symbol, alternatives in self.rules.items()
        }
        self._position = {symbol: position for position, symbol in enumerate(self.symbols)}
        self._by_first_symbol: dict[str, list[Rule]] = {}
        for rule in self._all_rules():
            self._by_first_symbol.setdefault(rule.right[0], []).append(rule)
        self._by_first_word: dict[str, list[Rule]] = {}

    @functools.cached_property
    def words(self) -> list[str]:
        """Every word that can occur, in alphabetical order."""
        return sorted({s for rule in self._all_rules() for s in rule.right if s not in self.rules})

    def sample(self, num: int, rng: np.random.Generator) -> Iterator[Derivation]:
        """Independent derivations, drawn as they are asked for; the first of them do not depend on `num` where the
        generator is fresh.
        """
        uniforms = _uniforms(rng)
        return (self._derive(uniforms) for _ in range(num))

    def _derive(self, uniforms: Iterator[float]) -> Derivation:
        words: list[str] = []
        rules: list[Rule] = []
        pending = [self.start]
        while pending:
            symbol = pending.pop()
            alternatives = self.rules.get(symbol)
            if alternatives is None:
                words.append(symbol)
            else:
                rule = alternatives[bisect.bisect_right(self._thresholds[symbol], next(uniforms))]
                rules.append(rule)
                pending.extend(reversed(rule.right))
        return Derivation(words=tuple(words), rules=tuple(rules))

    def log_probs(self, sentences: Iterable[str]) -> Float64[np.ndarray, " N"]:
        """log p of each sentence, its words set apart by blanks, in nats; the end of the sentence is included."""
        return np.array([self.log_prob(sentence.split()) for sentence in sentences], dtype=np.float64)

    def log_prob(self, words: Sequence[str]) -> float:
        r"""log p(sentence) in nats by the inside algorithm; −inf for what the grammar does not yield.

        The chart holds, for every symbol A, start i and end k, the inside probability

        \(\beta_A(i, k) = \sum_{A \to X_1 \dots X_m} p(A \to X_1 \dots X_m)
        \sum_{i = j_0 < j_1 < \dots < j_m = k} \prod_l \beta_{X_l}(j_{l-1}, j_l)\), with 1 for a word at its place.

        It is filled from the right, and at each start from the bottom up, so rules need not be binary, and unary ones
        are exact. Reference: Lari & Young 1990, "The estimation of stochastic context-free grammars using the
        inside-outside algorithm".
        """
        chart: list[dict[str, dict[int, float]]] = [{word: {i + 1: _SCALE}} for i, word in enumerate(words)]
        chart.append({})
        for start in reversed(range(len(words))):
            cell = chart[start]
            for rule in self._starting_with(words[start]):
                ends = {start: rule.probability}
                for symbol in rule.right:
                    reached: dict[int, float] = {}
                    for middle, mass in ends.items():
                        for end, inside in chart[middle].get(symbol, {}).items():
                            reached[end] = reached.get(end, 0.0) + mass * inside
                    ends = reached
                    if not ends:
                        break
                if ends:
                    total = cell.setdefault(rule.left, {})
                    for end, mass in ends.items():
                        total[end] = total.get(end, 0.0) + mass
        mass = chart[0].get(self.start, {}).get(len(words), 0.0)
        return math.log(mass) - len(words) * math.log(_SCALE) if mass else -math.inf

    def entropy(self, num_samples: int, seed: int) -> tuple[float, float]:
        r"""The entropy of the sentences in nats, and the standard error of this estimate.

        \(H(s) = H(d) - \mathbb{E}[\log p(s) - \log p(d)]\) for a derivation d and its sentence s. The first term is
        exact, and the second, sampled, is small and varies little: it is 0 but for ambiguous sentences.
        """
        derivations = self.sample(num_samples, np.random.Generator(np.random.PCG64(seed)))
        ambiguity = np.array([self.log_prob(d.words) - d.log_prob for d in derivations])
        error = float(ambiguity.std(ddof=1)) / math.sqrt(num_samples)
        return self.derivation_entropy - float(ambiguity.mean()), error

    @functools.cached_property
    def derivation_entropy(self) -> float:
        r"""The entropy of the derivations in nats, exact and at least that of the sentences.

        \(H_A = \sum_{A \to \alpha} p(A \to \alpha) (-\log p(A \to \alpha) + \sum_{X \in \alpha} H_X)\). Reference:
        Grenander 1976, "Lectures in Pattern Theory".
        """
        return self._fold(lambda _: 0.0, lambda rule, below: rule.probability * (below - math.log(rule.probability)))

    @functools.cached_property
    def mean_length(self) -> float:
        """The expected number of words of a sentence, exact."""
        return self._fold(lambda _: 1.0, lambda rule, below: rule.probability * below)

    def longest(self, size: Callable[[str], int]) -> int:
        """The size of the longest sentence: the largest sum of the sizes of its words."""
        return int(self._fold(size, lambda _, below: below, max))

    def _fold(
        self,
        of_word: Callable[[str], float],
        of_rule: Callable[[Rule, float], float],
        combine: Callable[[Iterable[float]], float] = math.fsum,
    ) -> float:
        """The start symbol's value: combined over its rules, each given the sum of its symbols' values."""
        values: dict[str, float] = {}
        for symbol in self.symbols:
            values[symbol] = combine(
                [of_rule(r, sum(values[s] if s in values else of_word(s) for s in r.right)) for r in self.rules[symbol]]
            )
        return values[self.start]

    def _all_rules(self) -> Iterator[Rule]:
        return itertools.chain.from_iterable(self.rules.values())

    def _bottom_up(self) -> list[str]:
        """The nonterminals, each after those that its rules hold."""
        below = {left: [s for r in rules for s in r.right if s in self.rules] for left, rules in self.rules.items()}
        try:
            return list(TopologicalSorter(below).static_order())
        except CycleError as error:
            raise ValueError(f"the symbols {' → '.join(error.args[1])} derive themselves") from error

    def _check(self) -> None:
        for symbol, alternatives in self.rules.items():
            if not all(rule.right and rule.probability > 0 for rule in alternatives):
                raise ValueError(f"{symbol}: a rule yields nothing or has no probability")
            total = math.fsum(rule.probability for rule in alternatives)
            if abs(total - 1) > 1e-9:
                raise ValueError(f"{symbol}: the probabilities of its rules add up to {total}, not 1")
        reached = {self.start}
        for symbol in reversed(self.symbols):
            if symbol not in reached:
                raise ValueError(f"{symbol}: cannot be reached from {self.start}")
            reached.update(s for rule in self.rules[symbol] for s in rule.right)

    def _starting_with(self, word: str) -> list[Rule]:
        """The rules that can yield something that begins with a word, lower symbols first, as the chart needs them."""
        if word not in self._by_first_word:
            found: list[Rule] = []
            pending, seen = [word], {word}
            while pending:
                rules = self._by_first_symbol.get(pending.pop(), [])
                found += rules
                pending += {rule.left for rule in rules} - seen
                seen.update(rule.left for rule in rules)
            self._by_first_word[word] = sorted(found, key=lambda rule: self._position[rule.left])
        return self._by_first_word[word]


def _uniforms(rng: np.random.Generator) -> Iterator[float]:
    while True:
        yield from rng.random(_UNIFORMS).tolist()
