"""Training a sentence VAE: start a run from a recipe, or go on with a run that was stopped."""

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from torch.optim import Optimizer

from corpora import Splits, TextBatch, TokenBatches, evaluation_batches, load_splits
from latent.training import (
    Run,
    TrainConfig,
    TrainState,
    open_accelerator,
    open_reporter,
    seed_everything,
    train,
)
from latent.training.checkpoints import load_state
from latent.training.loop import TrainingData
from latent.training.precision import resolve_precision
from latent.training.seeding import Stream
from textvae.models import LstmVae
from textvae.recipe import TextRecipe, dump_recipe, load_recipe
from textvae.session import CORPUS, TOKENIZER, TOKENS_AT_ONCE, check_corpus, describe_corpus, stored_tokenizer

log = logging.getLogger("textvae")


def start_run(recipe: TextRecipe, path: Path) -> Run:
    """Load the corpus, build the model, make the run folder at `path`, train.

    Nothing is left at `path` if corpus or settings are refused.
    """
    precision = resolve_precision(recipe.train.precision)  # stored, so that a repeat elsewhere is the same training
    recipe = replace(recipe, corpus=recipe.corpus.resolved(), train=replace(recipe.train, precision=precision))
    splits = load_splits(recipe.corpus)
    state = build_state(recipe, len(splits.tokenizer))
    files = {TOKENIZER: splits.tokenizer.to_bytes(), CORPUS: describe_corpus(recipe.corpus)}
    run = Run.create(path, dump_recipe(recipe), files)
    _train(run, recipe, splits, state)
    return run


def resume_run(run: Run) -> Run:
    """Go on from the run's last whole checkpoint, or from the start if it was stopped before its first.

    The weights become the same, bit for bit, as those of a run that was never stopped. Raises RunError where the text
    of the corpus has changed.
    """
    recipe = load_recipe(run.config_path)
    check_corpus(run, recipe.corpus)
    splits = load_splits(recipe.corpus, stored_tokenizer(run))
    state = build_state(recipe, len(splits.tokenizer))
    _restore(run, state)
    _train(run, recipe, splits, state)
    return run


def _train(run: Run, recipe: TextRecipe, splits: Splits, state: TrainState) -> None:
    config = recipe.train
    batches = TokenBatches(splits.train, config.tokens_per_batch, config.seed)
    num_steps = config.num_steps(batches.num_batches)
    data = TrainingData(
        batches=batches,
        validation=_validation_batches(splits, config),
        unit="tokens",
        units_per_step=splits.train.num_scored_tokens / batches.num_batches,
    )
    with open_reporter(run.name, num_steps, state.step, data.unit) as reporter:
        for line in _description(run, recipe, splits, batches, state, num_steps):
            run.say(line)
            reporter.say(line)
        with _says_how_to_go_on(run, state):
            train(run, state, data, recipe.objective, recipe.update, config, num_steps, reporter)
    run.say(f"done: {num_steps} steps")


@contextmanager
def _says_how_to_go_on(run: Run, state: TrainState) -> Iterator[None]:
    """What the user or the system stopped can be resumed: say by which command."""
    try:
        yield
    except KeyboardInterrupt as error:
        raise KeyboardInterrupt(f"stopped at step {state.step}; {_remedy(run)}") from error
    except OSError as error:
        raise OSError(f"stopped at step {state.step}: {error}; mend that, then {_remedy(run)}") from error


def _remedy(run: Run) -> str:
    return f"go on with: textvae train --resume {run.path}"


def build_state(recipe: TextRecipe, num_ids: int) -> TrainState:
    """Model and optimizer at step 0, a function of the recipe and its seed."""
    accelerator = open_accelerator(recipe.train.precision)
    seed_everything(recipe.train.seed, Stream.INITIALISATION)
    model: LstmVae = recipe.model.build(num_ids)
    model, optimizer = accelerator.prepare(model, _optimizer(model, recipe.train))
    model.train()
    return TrainState(model, optimizer, accelerator)


def _optimizer(model: torch.nn.Module, config: TrainConfig) -> Optimizer:
    if config.optimizer == "sgd":
        return torch.optim.SGD(model.parameters(), lr=config.learning_rate, weight_decay=config.weight_decay)
    return torch.optim.AdamW(model.parameters(), lr=config.learning_rate, weight_decay=config.weight_decay, fused=True)


def _restore(run: Run, state: TrainState) -> None:
    for name, (before, now) in run.changed_environment().items():
        log.warning(
            "%s: %s was %s and is %s: the weights will not be the same bit for bit", run.path, name, before, now
        )
    if not any((run.path / "checkpoints").glob("step-*")):
        run.cut_metrics(0)
        return
    checkpoint, damaged = run.checkpoint("last")
    for line in damaged:
        log.warning("%s; going on from %s", line, checkpoint.path.name)
    load_state(checkpoint, state)
    run.cut_metrics(state.step)


def _validation_batches(splits: Splits, config: TrainConfig) -> list[TextBatch]:
    size = min(config.validation_size, len(splits.valid))
    subset = splits.valid.select(np.random.default_rng(0).permutation(len(splits.valid))[:size])
    return list(evaluation_batches(subset, TOKENS_AT_ONCE))


def _description(
    run: Run, recipe: TextRecipe, splits: Splits, batches: TokenBatches, state: TrainState, num_steps: int
) -> list[str]:
    """What is being trained, on what, what was left out of the corpus, and which schedules will not end."""
    num_weights = sum(weight.numel() for weight in state.model.parameters())
    schedules = {
        "objective.kl_weight": recipe.objective.kl_weight,
        "train.learning_rate_schedule": recipe.train.learning_rate_schedule,
    }
    ends = {name: (schedule(num_steps - 1), schedule(10**9)) for name, schedule in schedules.items()}
    return [
        f"run {run.path}",
        f"corpus {recipe.corpus.kind}: {len(splits.train):,} / {len(splits.valid):,} / {len(splits.test):,} sentences, "
        f"{splits.train.num_scored_tokens:,} training tokens, vocabulary {splits.tokenizer.vocabulary_size:,}, "
        f"{batches.num_batches} batches an epoch, padding {batches.padding:.1%}",
        f"model {recipe.model.kind}: {num_weights:,} weights on {state.accelerator.device}, "
        f"precision {recipe.train.precision}",
        *(
            f"{name}: {counts.empty:,} empty lines skipped, {counts.cut:,} long sentences cut to max_length"
            for name, counts in splits.counts.items()
            if counts.empty or counts.cut
        ),
        *(
            f"{name} is only {last:.2g} at step {num_steps:,}, on its way to {final:.2g}: its steps are not the run's"
            for name, (last, final) in ends.items()
            if abs(last - final) > 0.01
        ),
        *([f"resumed at step {state.step}"] if state.step else []),
    ]
