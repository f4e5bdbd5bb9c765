"""Sweeps: which trials there are, how they run, fail, stop and go on, and the table that is left."""

import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import yaml
from tiny import tiny_recipe, write_corpus
from typed import textvae

import cli
from latent.reporting.processes import Here, Job, run_jobs
from latent.reporting.sweep import read_sweep, run_sweep, runs_of_table
from latent.training import ConfigError, Run, find_run
from textvae.run_kind import KIND
from textvae.side import TEXT


def written(path: Path, **content: object) -> Path:
    path.write_text(yaml.safe_dump(content, sort_keys=False), "utf-8")
    return path


def test_every_recipe_with_every_combination_and_seed_is_a_trial(tmp_path: Path) -> None:
    grid = {"objective.free_bits": [0.1, 0.25], "model.posterior": [{"kind": "normal"}, {"kind": "delta"}]}
    path = written(tmp_path / "s.yaml", recipes=["plain", "lstm"], seeds=[0, 3], set=["train.steps=5"], grid=grid)
    trials = read_sweep(path).trials(tmp_path / "out")
    assert len(trials) == len({trial.path for trial in trials}) == 16
    assert [trial.seed for trial in trials] == [0] * 8 + [3] * 8
    first = trials[0]
    assert first.name == "plain/free_bits=0.1,posterior=kindnormal_s0"
    assert first.overrides == (
        "train.steps=5", "objective.free_bits=0.1", 'model.posterior={"kind": "normal"}', "train.seed=0"
    )  # fmt: skip
    assert TEXT.load_recipe(TEXT.folder / "plain.yaml", first.overrides).objective.free_bits == 0.1


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ({"recipes": []}, "recipes: .*at least 1"),
        ({"recipes": ["plain"], "seed": [1]}, "seed: unexpected key"),
        ({"recipes": ["plain"], "seeds": [-1]}, "seeds.0: .*greater than or equal to 0"),
        ({"recipes": ["plain"], "grid": {"train.steps": []}}, "grid.train.steps: .*at least 1"),
        ({"recipes": ["plain"], "measure": {"samples": 0}}, "measure.samples: .*greater than 0"),
        ({"recipes": ["plain", "plain"]}, "two trials would be plain/as-is_s0"),
    ],
)
def test_what_cannot_be_swept_is_refused(content: dict[str, object], message: str, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=message):
        read_sweep(written(tmp_path / "s.yaml", **content)).trials(tmp_path)


def test_a_trial_never_leaves_its_folder(tmp_path: Path) -> None:
    path = written(tmp_path / "s.yaml", recipes=["../../plain"], grid={"a": ["../../../x", "/etc/passwd"]})
    for trial in read_sweep(path).trials(tmp_path / "out"):
        for each in (trial.path, trial.record, trial.log):
            assert each.resolve().is_relative_to((tmp_path / "out").resolve())


@pytest.fixture(scope="module")
def swept(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, list[str]]:
    """Two trials, of which one cannot be trained; called twice."""
    folder = tmp_path_factory.mktemp("sweep")
    recipe = folder / "tiny.yaml"
    recipe.write_text(TEXT.schema.dump(tiny_recipe(write_corpus(folder))), "utf-8")
    grid = {"model.latent_size": [2, 10**13]}
    config = read_sweep(written(folder / "s.yaml", recipes=[str(recipe)], grid=grid, measure={"samples": 2}))
    said: list[str] = []
    for _ in range(2):
        table, num_failed = run_sweep(config, folder / "out", Here(2), cli.found_recipe, lambda run: KIND, said.append)
        assert num_failed == 1
    return table, said


def test_one_failure_stops_no_other_and_what_is_done_stays_done(swept: tuple[Path, list[str]]) -> None:
    table, said = swept
    good, bad = pq.read_table(table).to_pylist()
    assert (good["status"], bad["status"]) == ("done", "failed")
    assert bad["error"]
    assert bad["nll"] is None
    assert good["nll_low"] < good["nll"] < good["nll_high"]
    assert said.count("tiny/latent_size=2_s0: done") == 1
    assert [line for line in said if "done before" in line] == ["2 trials, 0 done before", "2 trials, 1 done before"]
    assert runs_of_table(table) == [table.parent / "tiny/latent_size=2_s0"]
    assert find_run(str(runs_of_table(table)[0])).path.name == "latent_size=2_s0"


def test_other_settings_under_the_same_name_are_refused(swept: tuple[Path, list[str]], tmp_path: Path) -> None:
    table, _ = swept
    path = written(
        tmp_path / "s.yaml",
        recipes=["tiny"],
        grid={"model.latent_size": [2]},
        set=["train.log_steps=7"],
    )
    with pytest.raises(ConfigError, match="other settings than the sweep has now; choose another --out"):
        run_sweep(read_sweep(path), table.parent, Here(1), cli.found_recipe, lambda run: KIND, print)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ({"grid": {"objective.free_bits": [0.1, -1]}}, "tiny/free_bits=-1_s0: tiny.yaml: objective.free_bits: .*-1"),
        ({"grid": {"objective.free_bit": [0.1]}}, "tiny/free_bit=0.1_s0: tiny.yaml: objective.free_bit: unexpected"),
        ({"grid": {"update": [{"kind": "joint"}, {"kind": "vae_gan"}]}}, "update=kindvae_gan_s0: update.kind: vae_gan"),
        ({"set": ["corpus.kind=book"]}, "as-is_s0: tiny.yaml: corpus.kind: 'book' is none of"),
    ],
    ids=["range", "key", "checked", "corpus"],
)
def test_a_trial_that_cannot_be_is_found_before_the_first_is_started(
    content: dict[str, object], message: str, tmp_path: Path
) -> None:
    recipe = tmp_path / "tiny.yaml"
    recipe.write_text(TEXT.schema.dump(tiny_recipe(tmp_path / "no-corpus-is-read.txt")), "utf-8")
    path = written(tmp_path / "s.yaml", recipes=[str(recipe)], seeds=[0, 1], **content)
    done = textvae("sweep", path, "--out", tmp_path / "out")
    assert done.returncode == 2
    assert re.fullmatch(f"error: sweep: .*{message}.*; mend it in the sweep's file: none was started", done.stderr[:-1])
    assert not (tmp_path / "out").exists()


def test_what_is_done_is_not_refused_when_its_recipe_is_gone(swept: tuple[Path, list[str]], tmp_path: Path) -> None:
    out = shutil.copytree(swept[0].parent, tmp_path / "out")
    recipe = tmp_path / "gone" / "tiny.yaml"
    config = read_sweep(
        written(tmp_path / "s.yaml", recipes=[str(recipe)], grid={"model.latent_size": [2]}, measure={"samples": 2})
    )
    said: list[str] = []
    _, num_failed = run_sweep(config, out, Here(1), cli.found_recipe, lambda run: KIND, said.append)
    assert (num_failed, said) == (0, ["1 trials, 1 done before"])
    for path in (out / "trials").glob("*latent_size=2_s0.json"):
        path.unlink()
    shutil.rmtree(out / "tiny")
    with pytest.raises(ConfigError, match=r"sweep: tiny/latent_size=2_s0: .*tiny.yaml: cannot be read"):
        run_sweep(config, out, Here(1), cli.found_recipe, lambda run: KIND, said.append)


def test_what_is_no_table_of_a_sweep_is_refused(tmp_path: Path) -> None:
    (tmp_path / "a.parquet").write_bytes(b"PAR1")
    for name in ("a.parquet", "missing.parquet"):
        with pytest.raises(ConfigError, match="not the table of a sweep"):
            runs_of_table(tmp_path / name)


def python(code: str) -> list[str]:
    return [sys.executable, "-c", code]


def test_jobs_run_their_commands_in_order_and_a_failure_ends_its_own(tmp_path: Path) -> None:
    failures: dict[str, str] = {}

    def job(name: str, *codes: str) -> Job:
        def commands() -> Iterator[list[str]]:
            yield from (python(code) for code in codes)

        return Job(commands, tmp_path / f"{name}.log", lambda error: failures.__setitem__(name, error))

    wrong = "import sys; print('error: too bad', file=sys.stderr); sys.exit(3)"
    jobs = [
        job("good", "print(1)", "print(2)"),
        job("bad", wrong, "print('never')"),
        job("dead", "raise SystemExit(7)"),
    ]
    assert len(list(run_jobs(jobs, Here(2)))) == 3
    assert (tmp_path / "good.log").read_text() == "1\n2\n"
    assert "never" not in (tmp_path / "bad.log").read_text()
    assert failures == {"bad": "too bad", "dead": "exit status 7"}


def test_a_signal_reaches_every_process_and_is_waited_for(tmp_path: Path) -> None:
    """In a process of its own, as a signal is for all of it."""
    child = (
        "import signal, sys, time\n"
        "def end(*_):\n    time.sleep(0.3); open(sys.argv[1], 'w').write('saved'); sys.exit(143)\n"
        "signal.signal(signal.SIGTERM, end); open(sys.argv[1] + '.up', 'w'); time.sleep(60)"
    )
    code = (
        "import json, sys\nfrom pathlib import Path\nfrom latent.reporting.processes import Here, Job, run_jobs\n"
        "from latent.training.interruption import Stopped\n"
        "child, out = sys.argv[1], Path(sys.argv[2])\n"
        "jobs = [Job(lambda n=n: iter([[sys.executable, '-c', child, str(out / n)]]), out / f'{n}.log', print)"
        " for n in 'ab']\n"
        "try:\n    list(run_jobs(jobs, Here(2)))\nexcept Stopped as error:\n    sys.exit(error.exit_code)\n"
    )
    process = subprocess.Popen([*python(code), child, str(tmp_path)], env={**os.environ})
    deadline = time.monotonic() + 60
    while not all((tmp_path / f"{name}.up").exists() for name in "ab"):
        assert time.monotonic() < deadline
        time.sleep(0.05)
    process.send_signal(signal.SIGINT)
    assert process.wait(60) == 130
    assert [(tmp_path / name).read_text() for name in "ab"] == ["saved", "saved"]


@pytest.mark.parametrize(
    "content", ["{", '{"status": "new", "overrides": [], "seconds": 1' + "0" * 400 + ', "error": ""}']
)
def test_a_damaged_record_is_named(content: str, swept: tuple[Path, list[str]]) -> None:
    table, _ = swept
    record = table.parent / "trials/tiny-latent_size=2_s0.json"
    kept = record.read_text()
    record.write_text(content)
    try:
        (trial, *_) = read_sweep(table.parent.parent / "s.yaml").trials(table.parent)
        with pytest.raises(ConfigError, match=r"latent_size=2_s0.json: damaged"):
            trial.read()
    finally:
        record.write_text(kept)
    assert json.loads(kept)["status"] == "done"
    assert Run.open(trial.path).path == trial.path


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ({"recipes": [".."]}, "recipes: '..' is no name"),
        ({"recipes": ["/"]}, "recipes: '/' is no name"),
        ({"recipes": ["plain"], "grid": {name: [0] * 100 for name in "abcdef"}}, "1,000,000,000,000 trials, where"),
    ],
)
def test_a_hostile_sweep_is_refused(content: dict[str, object], message: str, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=message):
        read_sweep(written(tmp_path / "s.yaml", **content)).trials(tmp_path / "out")


@pytest.mark.parametrize("run", ["../elsewhere", "/etc"])
def test_a_table_of_runs_elsewhere_is_refused(run: str, tmp_path: Path) -> None:
    pq.write_table(pa.table({"run": [run], "status": ["done"]}), tmp_path / "sweep.parquet")
    with pytest.raises(ConfigError, match="lies outside of its folder"):
        runs_of_table(tmp_path / "sweep.parquet")


def test_a_table_of_very_many_rows_is_refused(tmp_path: Path) -> None:
    pq.write_table(pa.table({"run": ["a"] * 10_001, "status": ["done"] * 10_001}), tmp_path / "sweep.parquet")
    with pytest.raises(ConfigError, match="10,001 rows, where a sweep has 10,000 at most"):
        runs_of_table(tmp_path / "sweep.parquet")
