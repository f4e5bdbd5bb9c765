import itertools
import math
from collections import Counter

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from corpora.grammar import Derivation, Pcfg, Rule


def grammar(text):
    """`A weight symbols…` a line; the weights of a symbol are scaled to add up to 1."""
    lines = [line.split() for line in text.strip().splitlines()]
    totals = Counter()
    for left, weight, *_ in lines:
        totals[left] += float(weight)
    return Pcfg(
        [
            Rule(left=left, right=tuple(right), probability=float(weight) / totals[left])
            for left, weight, *right in lines
        ],
        lines[0][0],
    )


AMBIGUOUS = """
    S 3 NP VP
    S 1 NP VP PP
    VP 2 sees NP
    VP 1 sees NP PP
    VP 1 X
    X 1 runs
    X 1 sees NP
    NP 2 N
    NP 1 N PP
    PP 1 with N
    N 2 ann
    N 1 bob
    N 1 big bob
"""


def derivations(pcfg, symbol):
    """Every derivation from a symbol, by brute force."""
    if symbol not in pcfg.rules:
        return [((symbol,), ())]
    found = []
    for rule in pcfg.rules[symbol]:
        for parts in itertools.product(*(derivations(pcfg, s) for s in rule.right)):
            words = tuple(word for part, _ in parts for word in part)
            found.append((words, (rule, *(r for _, rules in parts for r in rules))))
    return found


def brute_force(pcfg):
    """The probability of every sentence, and the number of its derivations."""
    sums, counts = Counter(), Counter()
    for words, rules in derivations(pcfg, pcfg.start):
        sums[words] += math.exp(Derivation(words=words, rules=rules).log_prob)
        counts[words] += 1
    return sums, counts


@pytest.fixture(scope="module")
def ambiguous():
    return grammar(AMBIGUOUS)


def test_log_prob_is_that_of_brute_force_and_the_mass_is_one(ambiguous):
    sums, counts = brute_force(ambiguous)
    assert len(sums) == 1_488
    assert counts["ann", "sees", "bob", "with", "ann"] == 5  # on the noun, the verb or the sentence, by VP or by X
    for words, probability in sums.items():
        assert ambiguous.log_prob(words) == pytest.approx(math.log(probability), abs=1e-12)
    assert math.fsum(math.exp(ambiguous.log_prob(words)) for words in sums) == pytest.approx(1, abs=1e-12)


def test_log_probs_of_a_text_and_of_what_is_no_sentence(ambiguous):
    sentences = ["ann runs", "runs ann", "ann", "", "ann runs runs", "ann sleeps", "bob sees ann with bob"]
    log_probs = ambiguous.log_probs(sentences)
    assert log_probs.dtype == np.float64
    assert log_probs[0] == pytest.approx(math.log(3 / 4 * 2 / 3 * 1 / 2 * 1 / 4 * 1 / 2))
    assert np.isneginf(log_probs[1:6]).all()
    assert log_probs[6] == ambiguous.log_prob(sentences[6].split())
    assert ambiguous.log_probs([]).shape == (0,)


def test_samples_have_the_exact_frequencies(ambiguous):
    num = 20_000
    sampled = list(ambiguous.sample(num, np.random.default_rng(0)))
    sums, _ = brute_force(ambiguous)
    observed = Counter(d.words for d in sampled)
    common = [words for words, p in sums.items() if p * num >= 5]
    expected = np.array([sums[words] * num for words in common])
    chi2 = (((np.array([observed[words] for words in common]) - expected) ** 2) / expected).sum()
    assert abs(chi2 - len(common)) < 4 * math.sqrt(2 * len(common))
    assert observed.keys() <= sums.keys()
    assert all(d.log_prob <= ambiguous.log_prob(d.words) + 1e-12 for d in sampled[:200])


def test_a_larger_sample_begins_with_a_smaller_one(ambiguous):
    few, many = (list(ambiguous.sample(num, np.random.default_rng(3))) for num in (10, 5_000))
    assert [d.words for d in few] == [d.words for d in many[:10]]


def test_entropies_and_length_against_enumeration(ambiguous):
    sums, _ = brute_force(ambiguous)
    entropy = -math.fsum(p * math.log(p) for p in sums.values())
    of_derivations = -math.fsum(
        math.exp(d.log_prob) * d.log_prob
        for d in (Derivation(words=w, rules=r) for w, r in derivations(ambiguous, "S"))
    )
    assert ambiguous.derivation_entropy == pytest.approx(of_derivations, abs=1e-12)
    assert ambiguous.derivation_entropy > entropy
    value, error = ambiguous.entropy(5_000, seed=0)
    assert 0 < error < 0.02
    assert abs(value - entropy) < 4 * error
    assert ambiguous.mean_length == pytest.approx(math.fsum(p * len(w) for w, p in sums.items()), abs=1e-12)
    assert ambiguous.longest(lambda _: 1) == max(map(len, sums))
    assert ambiguous.longest(len) == max(len("".join(words)) for words in sums)
    assert ambiguous.words == ["ann", "big", "bob", "runs", "sees", "with"]


def test_without_ambiguity_the_entropy_is_exact():
    value, error = grammar("S 1 a\nS 3 b").entropy(10, seed=0)
    assert value == pytest.approx(-(0.25 * math.log(0.25) + 0.75 * math.log(0.75)))
    assert error == pytest.approx(0, abs=1e-12)


def test_a_long_improbable_sentence_does_not_underflow():
    pcfg = Pcfg(
        [
            Rule(left="S", right=("W",) * 60, probability=1.0),
            Rule(left="W", right=("a",), probability=1e-6),
            Rule(left="W", right=("b",), probability=1 - 1e-6),
        ],
        "S",
    )
    assert pcfg.log_prob(["a"] * 60) == pytest.approx(60 * math.log(1e-6), rel=1e-12)
    assert pcfg.log_prob(["b"] * 60) == pytest.approx(60 * math.log1p(-1e-6), abs=1e-10)


@given(st.data())
def test_any_small_grammar_sums_to_one(data):
    """Levels of symbols, each above the next, with words in common, so that ambiguity abounds."""
    rules = []
    for level in range(3):
        below = ["a", "b", *(f"N{deeper}" for deeper in range(level + 1, 3))]
        rights = data.draw(st.lists(st.lists(st.sampled_from(below), min_size=1, max_size=3), min_size=1, max_size=3))
        if level < 2:
            rights.append([f"N{level + 1}"])
        rules += [f"N{level} {data.draw(st.integers(1, 5))} {' '.join(right)}" for right in rights]
    pcfg = grammar("\n".join(rules))
    sums, _ = brute_force(pcfg)
    for words, probability in sums.items():
        assert math.exp(pcfg.log_prob(words)) == pytest.approx(probability, rel=1e-9)
    assert math.fsum(sums.values()) == pytest.approx(1, abs=1e-9)


@pytest.mark.parametrize(
    ("rules", "message"),
    [
        ([("S", ("a",), 0.5)], "S: the probabilities of its rules add up to 0.5, not 1"),
        ([("S", ("a",), 1.0), ("T", ("a",), 1.0)], "T: cannot be reached from S"),
        ([("S", ("T",), 1.0), ("T", ("a", "S"), 1.0)], "derive themselves"),
        ([("S", (), 1.0)], "S: a rule yields nothing or has no probability"),
        ([("S", ("a",), 1.0), ("S", ("b",), 0.0)], "S: a rule yields nothing or has no probability"),
    ],
)
def test_a_grammar_that_is_no_distribution_is_refused(rules, message):
    with pytest.raises(ValueError, match=message):
        Pcfg([Rule(left=left, right=right, probability=p) for left, right, p in rules], "S")
