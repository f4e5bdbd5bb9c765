"""The grammar of the corpus: its rules written out from the categories, and what a derivation says of its sentence."""

import functools
import math
from collections.abc import Iterator

from corpora.grammar.adjuncts import ADJUNCTS
from corpora.grammar.clauses import CLAUSES
from corpora.grammar.pcfg import Derivation, Pcfg, Rule
from corpora.grammar.phrases import PHRASES
from corpora.grammar.predicates import PREDICATES

START = "ROOT"
FACTORS = (
    "clause_type",  # statement, question, wh_question, command
    "conjunction",  # before a second clause of the sentence, or none
    "tense",
    "aspect",
    "polarity",
    "number",  # singular or plural: what the verb agrees with
    "subject",
    "verb",
    "prepositional_phrase",  # yes or no, wherever it stands; so are the next two
    "relative_clause",
    "clausal_object",
)
_CATEGORIES = ADJUNCTS | PHRASES | CLAUSES | PREDICATES
_ASIDE = ("REL", "POSSESSOR", "OWNER", "WHICH")  # may stand before the subject or the verb and hold others


@functools.cache
def english() -> Pcfg:
    """The grammar of `kind: grammar`: the start symbol and all that can be reached from it."""
    rules: list[Rule] = []
    pending, seen = [START], {START}
    while pending:
        found = _rules(pending.pop())
        rules += found
        below = dict.fromkeys(s for rule in found for s in rule.right if s[0].isupper())
        pending += [symbol for symbol in below if symbol not in seen]
        seen |= below.keys()
    return Pcfg(rules, START)


def _rules(symbol: str) -> list[Rule]:
    """The rules of a symbol, from the lines of its category."""
    category, *features = symbol.split(".")
    lines = [line.partition("|") for line in _CATEGORIES[category](*features).splitlines() if line.strip()]
    weighted = [(line.split(), dict(pair.split("=") for pair in factors.split())) for line, _, factors in lines]
    total = math.fsum(float(weight) for (weight, *_), _ in weighted)
    return [
        Rule(left=symbol, right=tuple(right), probability=float(weight) / total, factors=factors)
        for (weight, *right), factors in weighted
        if float(weight) > 0
    ]


def factors(derivation: Derivation) -> dict[str, str]:
    """What the sentence was made to say: a value for each of `FACTORS`, `none` where it has none.

    Those of the main clause are what its rules say from left to right, the first where two speak of the same factor:
    so the subject is the first noun and the verb the first verb; a command says at its start that it has no subject.
    """
    found: dict[str, str] = {}
    for rule in _main_clause(derivation):
        found = {**rule.factors, **found}
    categories = {symbol.partition(".")[0] for rule in derivation.rules[1:] for symbol in rule.right}
    for factor, category in (("prepositional_phrase", "PP"), ("relative_clause", "REL"), ("clausal_object", "CLAUSE")):
        found[factor] = "yes" if category in categories else "no"
    return {factor: found.get(factor, "none") for factor in FACTORS}


def _main_clause(derivation: Derivation) -> Iterator[Rule]:
    """The rules of a derivation without those that stand in an aside."""
    num_pending = 0  # symbols of the aside that are still to be expanded
    for rule in derivation.rules:
        if not num_pending and rule.left.partition(".")[0] in _ASIDE:
            num_pending = 1
        if num_pending:
            num_pending += sum(symbol[0].isupper() for symbol in rule.right) - 1
        else:
            yield rule
