"""What the verbs do with a run of sentences: each returns a value for JSON, and the same in lines."""

from pathlib import Path
from typing import Any

import click

from corpora import corpus_statistics, evaluation_batches, load_splits, read_sentences
from latent.measures import Refinement
from latent.measures.refinement import By, Start
from latent.reporting import table_lines
from latent.reporting.gap_report import GapQuestion, measure_gaps, refuse_without_bound
from latent.reporting.gaps_over_training import measure_gaps_over_training
from latent.reporting.stored_measures import save_measures
from latent.training import Run
from latent.training.console import Shown
from textvae import generation
from textvae.measuring import choose_sentences, digest
from textvae.measuring import measure as measure_run
from textvae.options import chosen_decoding
from textvae.recipe import TextRecipe
from textvae.session import Trained, open_trained
from textvae.tables import corpus_table, measured_lines

GAP_TOKENS_AT_ONCE = 600  # times the chains of each sentence, and a gradient for all of them

open_run = open_trained


def measure(
    trained: Trained,
    *,
    full: bool,
    samples: int,
    refine: int | None,
    refine_from: Start | None,
    refine_by: By | None,
    **settings: Any,
) -> Shown:
    """Measure a run and keep what was found in it."""
    refinement = Refinement.asked(refine, refine_from, refine_by)
    found = measure_run(trained, num_samples=samples, refinement=refinement, by_decoding=full, **settings)
    save_measures(trained.run, found)
    return Shown(found.figures.as_dict(), measured_lines(trained.run.name, found.figures))


def gaps(trained: Trained, **asked: Any) -> Shown:
    """How much of the bound's distance from log p(x) is the posterior family's, and how much the encoder's."""
    return measure_gaps(trained, _gap_question(trained, **asked))


def gaps_over_training(trained: Trained, **asked: Any) -> Shown:
    """The same of every checkpoint that was kept."""
    return measure_gaps_over_training(trained, _gap_question(trained, **asked))


def _gap_question(trained: Trained, *, split: str, limit: int, seed: int, **spent: int) -> GapQuestion:
    refuse_without_bound(trained, is_bound=trained.recipe.model.likelihood == "words")
    sentences, _ = choose_sentences(trained, split, limit, seed)
    batches = list(evaluation_batches(sentences, GAP_TOKENS_AT_ONCE))
    return GapQuestion.of(batches, {"split": split, "examples": digest(sentences)}, None, seed=seed, **spent)


def sample(trained: Trained, *, num_samples: int, seed: int, **decoding: Any) -> Shown:
    """Sentences from the prior."""
    texts = generation.sample(trained, num_samples, chosen_decoding(**decoding), seed)
    return Shown(texts, texts)


def reconstruct(
    trained: Trained, *, examples: tuple[str, ...], file: Path | None, from_sample: bool, seed: int, **decoding: Any
) -> Shown:
    """Sentences, encoded and decoded again."""
    if bool(examples) == (file is not None):
        raise click.UsageError("give sentences, or --file FILE")
    given = read_sentences(file).sentences if file else list(examples)
    found = generation.reconstruct(trained, given, chosen_decoding(**decoding), seed=seed, from_sample=from_sample)
    pairs = list(zip(given, found, strict=True))
    rows = [{"text": text, "reconstruction": back} for text, back in pairs]
    return Shown(rows, [f"{text}\n  → {back}" for text, back in pairs])


def interpolate(trained: Trained, *, first: str, last: str, steps: int, path: str, seed: int, **decoding: Any) -> Shown:
    """A walk from one sentence to another."""
    found = generation.interpolate(trained, first, last, steps, path, chosen_decoding(**decoding), seed)
    points = [{"position": p.position, "text": p.text, "is_repeat": p.is_repeat} for p in found]
    lines = [f"{p.position:.2f}  {p.text}{'  (the same)' if p.is_repeat else ''}" for p in found]
    return Shown({"first": first, "last": last, "kind": path, "path": points}, lines)


def encode(run: Run, checkpoint: str, file: Path, out: Path) -> Shown:
    """The posterior of each line of a file, in Parquet."""
    texts = generation.encode_file(open_trained(run, checkpoint), file, out)
    return Shown(None, [f"{len(texts.sentences):,} sentences, {texts.num_empty:,} empty lines skipped → {out}"])


def statistics(recipe: TextRecipe) -> Shown:
    """Sentences, tokens, lengths, vocabulary, unknown words, duplicates and overlap of a corpus."""
    found = corpus_statistics(load_splits(recipe.corpus))
    return Shown(found, table_lines(corpus_table(found)))


def prepare(recipe: TextRecipe) -> Shown:
    """Tokenise a corpus into the cache."""
    splits = load_splits(recipe.corpus)
    sizes = {name: len(split) for name, split in splits.by_name().items()}
    return Shown(sizes, [f"{' / '.join(f'{size:,}' for size in sizes.values())} sentences ready"])
