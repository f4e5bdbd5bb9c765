"""Tables of sentence runs for the terminal and the report."""

import math
from collections.abc import Callable, Mapping
from dataclasses import asdict
from typing import Any

from latent.measures import Estimate
from latent.reporting import (
    BOUND_ROWS,
    NLL_ROWS,
    OF_BOUND,
    REFINED_ROWS,
    Rows,
    TextTable,
    measures_table,
    shown,
    table_lines,
    unless_lacking,
    verdict_lines,
)
from textvae.factor_probe import FactorScore
from textvae.likelihood import REMARKS, Likelihood
from textvae.measuring import Measures

OF_EVERY_MODEL: Rows[Measures] = {
    **NLL_ROWS,
    "  above the corpus' own law": lambda m: _excess(m),
    "PPL": lambda m: shown(m.ppl),
    "T, scored tokens per sentence": lambda m: shown(m.tokens_per_sentence, 3),
    "vocabulary": lambda m: shown(m.vocabulary_size, 0),
    "bits per character": lambda m: shown(m.bits_per_character, 3),
    **BOUND_ROWS,
    "  its share on the first 3 positions": lambda m: (
        "undefined" if m.gain_on_first_positions is None else shown(m.gain_on_first_positions)
    ),
    **REFINED_ROWS,
    "reconstruction BLEU": lambda m: shown(m.bleu, 1),
    "exact matches": lambda m: shown(m.exact_match, 3),
    "retrieval accuracy": lambda m: shown(m.retrieval_accuracy, 3),
    "edit distance, 0 to 1": lambda m: shown(m.edit_distance, 3),
    "checkpoint": lambda m: m.checkpoint,
}


OF_WORDS = ("PPL", "bits per character")
LACKING: Mapping[Likelihood, tuple[str, ...]] = {
    "words": (),
    "vectors": OF_WORDS,
    "none": (*OF_BOUND, *OF_WORDS),
}


MEASURE_ROWS: Rows[Measures] = unless_lacking(OF_EVERY_MODEL, lambda m: LACKING[m.likelihood])


def _excess(measures: Measures) -> str:
    if measures.excess is None:
        return ""
    if math.isnan(measures.excess.value):
        return "undefined: unknown words (corpus.tokenizer.min_count=1 has none)"
    return shown(measures.excess)


def measured_lines(name: str, measures: Measures) -> list[str]:
    """A run's figures, the verdict's reasons, what to try, and what was measured by decoding."""
    lines = [
        *table_lines(measures_table({name: measures}, MEASURE_ROWS, "sentences")),
        *(f"! {remark}" for remark in REMARKS[measures.likelihood]),
        "",
        *verdict_lines(measures),
    ]
    if measures.factors is not None:
        lines += ["", *table_lines(factors_table(measures.factors))]
    for title, part in (("samples of the prior", measures.prior_samples), ("interpolation", measures.smoothness)):
        if part is not None:
            lines += ["", title, *_nested(asdict(part))]
    return lines


def factors_table(factors: Mapping[str, FactorScore]) -> TextTable:
    """How well a linear probe reads each factor from z."""
    rows = [
        (name, str(score.num_values), *(shown(each, 3) for each in (score.accuracy, score.majority, score.gain)))
        for name, score in factors.items()
    ]
    heads = ("factor", "values", "accuracy", "commonest value", "gain")
    return TextTable("what a linear probe reads from z, held out", heads, tuple(rows))


def _nested(values: dict[str, Any], indent: str = "  ") -> list[str]:
    """The members of nested figures, a line each."""
    lines: list[str] = []
    for name, value in values.items():
        if isinstance(value, dict) and "low" not in value:
            lines += [f"{indent}{name}", *_nested(value, indent + "  ")]
        else:
            text = shown(Estimate(**value), 3) if isinstance(value, dict) else "undefined" if value is None else value
            lines.append(f"{indent}{name.replace('_', ' ')}: {text}")
    return lines


def corpus_table(statistics: dict[str, Any]) -> TextTable:
    """What `corpora.corpus_statistics` found, a column for each split."""
    splits: dict[str, dict[str, Any]] = statistics["splits"]
    title = f"tokenizer {statistics['tokenizer']}, vocabulary {statistics['vocabulary_size']:,} (with <unk> and </s>)"
    rows = [(name, *(cell(split) for split in splits.values())) for name, cell in CORPUS_ROWS.items()]
    return TextTable(title, ("", *splits), tuple(rows))


CORPUS_ROWS: dict[str, Callable[[dict[str, Any]], str]] = {
    "sentences": lambda split: f"{split['sentences']:,}",
    "scored tokens": lambda split: f"{split['scored_tokens']:,}",
    "T, scored tokens per sentence": lambda split: f"{split['tokens_per_sentence']:.3f}",
    "shortest": lambda split: f"{split['length_quantiles']['0']:.0f}",
    "5 %, 25 %": lambda split: f"{split['length_quantiles']['0.05']:.0f}, {split['length_quantiles']['0.25']:.0f}",
    "median": lambda split: f"{split['length_quantiles']['0.5']:.0f}",
    "75 %, 95 %": lambda split: f"{split['length_quantiles']['0.75']:.0f}, {split['length_quantiles']['0.95']:.0f}",
    "longest": lambda split: f"{split['length_quantiles']['1']:.0f}",
    "unknown words": lambda split: f"{split['unknown_rate']:.2%}",
    "duplicates in the split, as tokenised": lambda split: f"{split['duplicates']:,}",
    "sentences of train in it, as tokenised": lambda split: f"{split['overlap']:,} ({split['overlap_share']:.2%})",
    "empty lines skipped": lambda split: f"{split['empty_lines']:,}",
    "sentences cut to max_length": lambda split: f"{split['sentences_cut']:,}",
}
