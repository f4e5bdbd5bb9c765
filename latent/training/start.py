"""Start a run from a recipe, or go on with a run that was stopped: the same for text and images."""

import logging
import shlex
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import torch
from torch.optim import Optimizer

from latent.training.changes import refuse_changes
from latent.training.checkpoints import ADVERSARY, MODEL, Checkpoint, load_state, set_tensors, state_tensors
from latent.training.compiling import CompileChoice, choose_compile, compile_model
from latent.training.config import Tree
from latent.training.console import open_reporter
from latent.training.interruption import Stopped, interruptible
from latent.training.lock import locked
from latent.training.loop import Training, TrainingData, train
from latent.training.nonfinite import Guard
from latent.training.precision import open_accelerator, resolve_precision
from latent.training.processes import check_same, check_share, join_processes, of_the_first
from latent.training.profiling import profiling
from latent.training.recipe import Recipe, TrainConfig
from latent.training.running import check_statistics
from latent.training.runs import CONFIG, Run, RunError, refuse_used
from latent.training.saving import Saver
from latent.training.seeding import Stream, seed_everything
from latent.training.sharding import Sharded
from latent.training.side import Material, RecipeT, Side
from latent.training.size import best_device, room_in_files, room_in_memory
from latent.training.sources import CORPUS, check_corpus, check_recipe, describe_corpus
from latent.training.state import TrainState
from latent.training.window import Columns, Window

NO_BOUND = "the loss is no bound on log p(x): no ELBO is logged, and the best checkpoint is the last"

log = logging.getLogger("textvae")


def start_run(side: Side[RecipeT], recipe: RecipeT, path: Path, *, profile: bool = False) -> Run:
    """Read the corpus, build the model, make the run folder at `path`, train.

    Nothing is left at `path` if corpus or settings are refused. With `profile` the folder tells where the time of a
    few steps went. Of several processes the first one's path counts, and it alone writes there.
    """
    processes = join_processes()
    check_share(recipe.train.batches_per_step, processes.num_processes, shard=recipe.train.shard)
    precision = resolve_precision(recipe.train.precision)  # stored, so that a repeat elsewhere is the same training
    recipe = replace(recipe, corpus=recipe.corpus.resolved(), train=replace(recipe.train, precision=precision))
    check_recipe(side, recipe)
    with processes.local_main_process_first():  # which leaves the encoded corpus in the cache
        material = side.read(recipe, None)
    with room_in_memory("recipe", side.schema.tree(recipe), best_device()):
        state = build_state(material, recipe.train)
        recipe.update.check(state.model)
        recipe.update.prepare(state)
    data = material.training_data()
    share_out(state, material, recipe.train)
    choice = _compile_choice(recipe.train, state, data)
    recipe = replace(recipe, train=replace(recipe.train, compile=choice.compile))
    files = {**material.files, CORPUS: describe_corpus(recipe.corpus)}
    path = of_the_first(state.accelerator, lambda: path)
    writes = state.accelerator.is_main_process
    if writes:
        refuse_used(path)
    with _locked(path, writes) as check_lock:
        run = Run.create(path, side.schema.dump(recipe), files) if writes else Run(path)
        described = [*material.describe(), _describe_model(recipe, state, choice)]
        _train(run, recipe, state, data, described, Start(side.schema.tree(recipe), check_lock), profile)
    return run


def resume_run(side: Side[RecipeT], run: Run, overrides: Sequence[str] = ()) -> Run:
    """Go on from the run's last whole checkpoint, or from the start if it was stopped before its first.

    The weights become the same, bit for bit, as those of a run that was never stopped. `overrides` may change how long
    the training is and what is kept and logged of it; config.yaml then says so. Raises RunError where anything else has
    changed, or the corpus, and LockedError where another process trains the run.
    """
    processes = join_processes()
    with _locked(run.path, processes.is_main_process) as check_lock:
        stored, recipe = (side.load_recipe(run.config_path, given) for given in ((), overrides))
        tree = side.schema.tree(recipe)
        changed = refuse_changes(side.schema.tree(stored), tree, f"--resume {run.path}")
        check_share(recipe.train.batches_per_step, processes.num_processes, shard=recipe.train.shard)
        check_corpus(run, recipe.corpus)
        with processes.local_main_process_first():
            material = side.read(recipe, run)
        checkpoint = _last_checkpoint(run)
        with _room_for(run, tree, checkpoint):
            state = build_state(material, recipe.train)
            recipe.update.prepare(state)
        data = material.training_data()
        start = _restore(run, state, checkpoint, Start(tree, check_lock))
        share_out(state, material, recipe.train)
        if changed and recipe.train.num_steps(data.batches.num_batches) < state.step:
            raise RunError(
                f"--resume {run.path}: the run is at step {state.step:,} already; ask for more steps than that"
            )
        if changed and processes.is_main_process:
            run.write(CONFIG, side.schema.dump(recipe))
        choice = _compile_choice(recipe.train, state, data)
        described = [f"{name} was {then} and is {now}" for name, (then, now) in changed.items()]
        described += [*material.describe(), _describe_model(recipe, state, choice)]
        _train(run, recipe, state, data, described, start)
    return run


def build_state(material: Material, config: TrainConfig) -> TrainState:
    """Model and optimizer at step 0, a function of the recipe and its seed."""
    accelerator = open_accelerator(config.precision)
    seed_everything(config.seed, Stream.INITIALISATION)
    # without DistributedDataParallel, which knows of a forward and a backward a step, and of no stages: see `add_up`
    model = material.build_model().to(accelerator.device)
    model.train()
    return TrainState(
        model, _optimizer(model, config), accelerator, material.build_model, config.seed, config.batches_per_step
    )


def _optimizer(model: torch.nn.Module, config: TrainConfig) -> Optimizer:
    rate, decay = config.learning_rate, config.weight_decay
    if config.optimizer == "sgd":
        return torch.optim.SGD(model.parameters(), lr=rate, weight_decay=decay)
    return torch.optim.AdamW(model.parameters(), lr=rate, weight_decay=decay, eps=config.adam_epsilon, fused=True)


@dataclass(frozen=True)
class Start:
    """Where a training begins: at a checkpoint's step, and with its window, or with nothing."""

    recipe: Tree
    check_lock: Callable[[], None]
    saved_step: int | None = None
    window: Columns = field(default_factory=dict)


def _train(
    run: Run,
    recipe: Recipe[Any, Any, Any],
    state: TrainState,
    data: TrainingData,
    described: list[str],
    start: Start,
    profile: bool = False,
) -> None:
    num_steps, writes = recipe.train.num_steps(data.batches.num_batches), state.accelerator.is_main_process
    with open_reporter(run.name, num_steps, state.step, data.unit, silent=not writes) as reporter:

        def say(line: str) -> None:
            if writes:
                run.say(line)
            reporter.say(line)

        for line in [f"run {run.path}", *described, *_remarks(recipe, state, num_steps)]:
            say(line)
        clocks = [compile_model(state.model, say)] if recipe.train.compile is True else []
        saver = Saver(run, recipe.train, start.recipe, start.saved_step, say, start.check_lock, writes=writes)
        if start.saved_step is not None:
            saver.prune()  # a kill may have come before it
        guard = Guard(saver, recipe, data.batches)
        with (
            _says_how_to_go_on(saver, state),
            interruptible() as asked,
            profiling(run.path if profile and writes else None) as profiled,
        ):
            hooks: list[Callable[[], object]] = [*clocks, profiled]
            train(Training(saver, guard, state, data, recipe, num_steps, reporter, asked, hooks), Window(start.window))
    took = "".join(f", of which compiling took {clock.seconds:.1f} s" for clock in clocks)
    if writes:
        run.say(f"done: {num_steps} steps{took}")


@contextmanager
def _says_how_to_go_on(saver: Saver, state: TrainState) -> Iterator[None]:
    """What the user or the system stopped can be resumed: say by which command."""
    remedy = f"go on with: textvae train --resume {shlex.quote(str(saver.run.path))}"
    try:
        yield
    except Stopped as error:
        kept = "" if saver.saved_step == state.step else f"; {saver.last_good()}"
        raise Stopped(error.by, f"stopped at step {state.step}{kept}; {remedy}") from error
    except KeyboardInterrupt as error:
        raise KeyboardInterrupt(f"stopped at step {state.step}; {saver.last_good()}; {remedy}") from error
    except OSError as error:
        reason = f"stopped at step {state.step}: {error}; {saver.last_good()}"
        raise OSError(f"{reason}; mend that, then {remedy}") from error


def _locked(path: Path, writes: bool) -> AbstractContextManager[Callable[[], None]]:
    return locked(path) if writes else nullcontext(lambda: None)


def share_out(state: TrainState, material: Material, config: TrainConfig) -> None:
    """Check that the processes can train together, and give each its part where the recipe wants that."""
    model, accelerator, parts = state.model, state.accelerator, state_tensors(state)
    check_statistics(model, accelerator.num_processes)
    check_same(accelerator, material.files, parts[MODEL])
    if config.shard:
        state.layout = Sharded(model, writes=accelerator.is_main_process)
        state.optimizer = _optimizer(model, config)
        set_tensors(parts, state)


def _room_for(run: Run, tree: Tree, checkpoint: Checkpoint | None) -> AbstractContextManager[None]:
    source = str(run.config_path)
    if checkpoint is None:
        return room_in_memory(source, tree, best_device())
    return room_in_files(source, tree, [checkpoint.path / name for name in (MODEL, ADVERSARY)])


def _last_checkpoint(run: Run) -> Checkpoint | None:
    if not any((run.path / "checkpoints").glob("step-*")):
        return None
    checkpoint, damaged = run.checkpoint("last")
    for line in damaged:
        log.warning("%s; going on from %s", line, checkpoint.path.name)
    return checkpoint


def _restore(run: Run, state: TrainState, checkpoint: Checkpoint | None, start: Start) -> Start:
    for name, (before, now) in run.changed_environment().items():
        log.warning(
            "%s: %s was %s and is %s: the weights will not be the same bit for bit", run.path, name, before, now
        )
    writes = state.accelerator.is_main_process
    if writes:
        run.sweep()
    if checkpoint is None:
        if writes:
            run.cut_metrics(0)
        return start
    if checkpoint.recipe:
        refuse_changes(checkpoint.recipe, start.recipe, str(run.config_path))
    load_state(checkpoint, state)
    if writes:
        run.cut_metrics(state.step)
    return replace(start, saved_step=checkpoint.step, window=checkpoint.window)


def _compile_choice(config: TrainConfig, state: TrainState, data: TrainingData) -> CompileChoice:
    if config.shard:
        return CompileChoice(False, "train.shard")
    return choose_compile(config.compile, state.accelerator.device, config.num_steps(data.batches.num_batches))


def _describe_model(recipe: Recipe[Any, Any, Any], state: TrainState, choice: CompileChoice) -> str:
    num_weights = sum(weight.numel() for weight in state.model.parameters())
    return (
        f"model {recipe.model.kind}: {num_weights:,} weights on {state.accelerator.device}, "
        f"precision {recipe.train.precision}, {choice}{_describe_sharing(recipe.train, state)}"
    )


def _describe_sharing(config: TrainConfig, state: TrainState) -> str:
    if config.batches_per_step == 1:
        return ""
    number = state.accelerator.num_processes
    sharded = ", sharded" if config.shard else ""
    return f", {config.batches_per_step} batches a step in {number} process{'es' if number > 1 else ''}{sharded}"


def _remarks(recipe: Recipe[Any, Any, Any], state: TrainState, num_steps: int) -> list[str]:
    """What the loss is not, which schedules will not end, and where a resumed run goes on from."""
    model = state.model
    schedules = {
        **{f"model.{name}": schedule for name, schedule in model.schedules.items()},
        **{f"objective.{name}": schedule for name, schedule in recipe.objective.schedules.items()},
        "train.learning_rate_schedule": recipe.train.learning_rate_schedule,
    }
    ends = {name: (schedule(num_steps - 1), schedule(10**9)) for name, schedule in schedules.items()}
    return [
        *([] if recipe.update.trains_bound else [NO_BOUND]),
        *(
            f"{name} is only {last:.2g} at step {num_steps:,}, on its way to {final:.2g}: its steps are not the run's"
            for name, (last, final) in ends.items()
            if abs(last - final) > 0.01
        ),
        *([f"resumed at step {state.step}"] if state.step else []),
    ]
