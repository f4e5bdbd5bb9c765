"""Tables for the terminal and the report: rows of a name and a text for each run."""

from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from typing import Any

from latent.measures import Estimate
from textvae.measuring import Measures


@dataclass(frozen=True)
class TextTable:
    """A title, column heads and rows, all text."""

    title: str
    heads: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]


def shown(estimate: Estimate, digits: int = 2) -> str:
    """A figure with half the width of its interval, or with its ends where they lie unevenly."""
    value, low, high = (f"{x:,.{digits}f}" for x in (estimate.value, estimate.low, estimate.high))
    if estimate.low == estimate.high:
        return value
    below, above = estimate.value - estimate.low, estimate.high - estimate.value
    if abs(above - below) < 10**-digits:
        return f"{value} ± {above:,.{digits}f}"
    return f"{value} [{low}, {high}]"


def measures_table(measures: Mapping[str, Measures]) -> TextTable:
    """Runs side by side. All of them were measured on the same split with the same settings."""
    one = next(iter(measures.values()))
    title = (
        f"{one.num_sentences:,} sentences of {one.split}, 95 % intervals; nats per sentence; "
        f"K = {one.num_samples}, seed {one.seed}"
    )
    rows = [(name, *(cell(m) for m in measures.values())) for name, cell in MEASURE_ROWS.items()]
    return TextTable(title, ("", *measures), tuple(rows))


MEASURE_ROWS: dict[str, Callable[[Measures], str]] = {
    "verdict": lambda m: m.verdict,
    "NLL (importance weighted)": lambda m: shown(m.nll),
    "  at K": lambda m: ", ".join(f"{k}: {nll.value:.2f}" for k, nll in m.nll_ladder.items()),
    "  would still fall by about": lambda m: _bias(m),
    "  effective sample size": lambda m: (
        f"{shown(m.effective_sample_size, 1)} of {m.total_draws / m.num_sentences:.0f}"
    ),
    "  above the corpus' own law": lambda m: "unknown law" if m.excess is None else shown(m.excess),
    "PPL": lambda m: shown(m.ppl),
    "T, scored tokens per sentence": lambda m: shown(m.tokens_per_sentence, 3),
    "vocabulary": lambda m: shown(m.vocabulary_size, 0),
    "bits per character": lambda m: shown(m.bits_per_character, 3),
    "−ELBO": lambda m: shown(Estimate(-m.elbo.value, -m.elbo.high, -m.elbo.low)),
    "reconstruction": lambda m: shown(m.reconstruction),
    "KL": lambda m: shown(m.kl),
    "  5 %, median, 95 % of sentences": lambda m: ", ".join(
        f"{m.kl_quantiles[share].value:.2f}" for share in ("0.05", "0.5", "0.95") if share in m.kl_quantiles
    ),
    "mutual information": lambda m: f"{shown(m.mutual_information)} (at most {m.mutual_information_ceiling:.2f})",
    "KL of all posteriors together": lambda m: shown(m.marginal_kl),
    "active units": lambda m: f"{shown(m.active_units, 0)} of {len(m.kl_per_dimension)}",
    "  at 0.001, at 0.1": lambda m: f"{m.active_units_at_0_001}, {m.active_units_at_0_1}",
    "shuffled-z gain": lambda m: shown(m.shuffled_gain),
    "  share on the first 3 positions": lambda m: (
        "undefined" if m.gain_on_first_positions is None else shown(m.gain_on_first_positions)
    ),
    "prior-z gain": lambda m: shown(m.prior_gain),
    "reconstruction BLEU": lambda m: shown(m.bleu, 1),
    "exact matches": lambda m: shown(m.exact_match, 3),
    "edit distance, 0 to 1": lambda m: shown(m.edit_distance, 3),
    "checkpoint": lambda m: m.checkpoint,
}


def _bias(measures: Measures) -> str:
    """How far the importance-weighted NLL is from its limit, by its own estimate."""
    if measures.nll_bias is None:
        return "unknown: too few draws"
    return f"{measures.nll_bias:.2f} nats{'' if measures.nll_has_converged else ' (not converged: raise --samples)'}"


def table_lines(table: TextTable) -> list[str]:
    """The table in lines, as wide as its texts."""
    widths = [max(map(len, column)) for column in zip(table.heads, *table.rows, strict=True)]
    head, *rows = [
        "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip()
        for row in (table.heads, *table.rows)
    ]
    return [table.title, "", head, "─" * (sum(widths) + 2 * len(widths) - 2), *rows]


def measured_lines(name: str, measures: Measures) -> list[str]:
    """A run's figures, the verdict's reasons, what to try, and what was measured by decoding."""
    lines = [*table_lines(measures_table({name: measures})), "", *measures.verdict_reasons]
    lines += [f"try: {advice}" for advice in measures.verdict_advice]
    for title, part in (("samples of the prior", measures.prior_samples), ("interpolation", measures.smoothness)):
        if part is not None:
            lines += ["", title, *_nested(asdict(part))]
    return lines


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
    "duplicates in the split": lambda split: f"{split['duplicates']:,}",
    "sentences of train in it": lambda split: f"{split['overlap']:,} ({split['overlap_share']:.2%})",
    "empty lines skipped": lambda split: f"{split['empty_lines']:,}",
    "sentences cut to max_length": lambda split: f"{split['sentences_cut']:,}",
}
