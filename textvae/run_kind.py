"""Runs of sentences, as they are compared and reported."""

import math
from collections.abc import Mapping

import numpy as np
from jaxtyping import Float

from latent.reporting.comparability import listed, other_examples
from latent.reporting.run_kind import BOUND_FIGURES, BY_EXAMPLE, NLL_FIGURE, GeometricMean, Row, RunKind
from latent.reporting.stored_measures import TOLERANCE
from textvae.likelihood import why_not_comparable
from textvae.measuring import Measures, measure
from textvae.run_report import Spoken, describe_run, sections
from textvae.session import Trained, open_trained
from textvae.side import TEXT

MOST_PER_TOKEN = 100.0  # nats: a model that says nothing has the logarithm of its vocabulary


def reasons(one: Measures, other: Measures, changed: Mapping[str, tuple[str, ...]]) -> tuple[str, ...]:
    """Why two runs were not measured on the same ids of the same vocabulary."""
    sizes = one.vocabulary_size.value, other.vocabulary_size.value
    if one.examples_digest == other.examples_digest and sizes[0] == sizes[1]:
        return ()
    tokenizer = {key: values for key, values in changed.items() if key.startswith("corpus.tokenizer.")}
    if tokenizer or sizes[0] != sizes[1]:
        vocabulary = f"vocabulary {sizes[0]:,.0f} against {sizes[1]:,.0f}"
        return ("; ".join(["other tokenisation", *listed(tokenizer), vocabulary]),)
    return other_examples(one, other, changed, "sentences", "other sentences or another tokenizer: the ids differ")


def unlike(one: Measures, other: Measures) -> tuple[str, ...]:
    """Why the likelihoods of two runs are not of the same thing."""
    return why_not_comparable(one.likelihood, other.likelihood, same_space=one.space_digest == other.space_digest)


def problem(figures: Measures, columns: Mapping[str, Float[np.ndarray, " N"]]) -> str | None:
    """What is wrong with stored tokens and a stored perplexity, if anything."""
    nll, num_tokens = columns["nll"], columns["num_tokens"]
    mean, expected = float(num_tokens.mean()), figures.tokens_per_sentence.value
    if not np.isclose(mean, expected, rtol=TOLERANCE, atol=TOLERANCE, equal_nan=True):
        return f"its mean num_tokens, {mean:.6g}, is not that of {figures.split}.json"
    if not (num_tokens >= 1).all():
        return "column num_tokens: a sentence has one token or more, its </s>"
    if figures.likelihood != "words":
        return None
    per_token = nll / num_tokens
    if (np.abs(per_token[np.isfinite(per_token)]) > MOST_PER_TOKEN).any():
        return f"column nll: more than {MOST_PER_TOKEN:g} nats per token"
    ppl = math.exp(float(nll.mean()) / mean)
    if not np.isclose(ppl, figures.ppl.value, rtol=TOLERANCE, equal_nan=True):
        return f"its PPL, {ppl:.6g}, is not that of {figures.split}.json"
    return None


KIND: RunKind[Trained, Measures, Spoken] = RunKind(
    side=TEXT,
    examples="sentences",
    measures=Measures,
    rows={
        **NLL_FIGURE,
        "ppl": Row("PPL"),
        **BOUND_FIGURES,
        "bleu": Row("reconstruction BLEU", 1),
        "exact_match": Row("exact matches", 3),
        "retrieval_accuracy": Row("retrieval accuracy", 3),
        "tokens_per_sentence": Row("T, scored tokens per sentence", 3),
        "vocabulary_size": Row("vocabulary", 0),
    },
    by_example=BY_EXAMPLE,
    geometric=(
        GeometricMean(
            name="ppl",
            numerator="nll",
            denominator="num_tokens",
            quotient="ppl_ratio",
            quotient_row=Row("PPL ratio", 3),
        ),
    ),
    paired=("exact_match", "retrieval_accuracy"),
    of_likelihood=("nll", "elbo", "reconstruction", "ppl", "ppl_ratio"),
    unlike=unlike,
    facts={"likelihood of": lambda m: m.likelihood},
    meanings={
        "PPL and T": "Perplexity per scored token; tokens of a sentence. Compare at equal T and vocabulary only."
    },
    problem=problem,
    reasons=reasons,
    open_run=open_trained,
    measure=measure,
    describe=describe_run,
    sections=sections,
)
