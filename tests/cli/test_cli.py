"""The command line as a user types it: what it prints, where, and how it ends."""

import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pyarrow.parquet as pq
import pytest
from tiny import SMALL, sentences, write_corpus
from typed import process, textvae

SCALARS = (
    "elbo", "reconstruction", "kl", "mutual_information", "active_units", "nll", "ppl", "tokens_per_sentence",
    "vocabulary_size", "shuffled_gain", "bleu", "exact_match", "effective_sample_size",
)  # fmt: skip

WORDS = ("corpus.tokenizer.min_count=1",)


def settings(*pairs: str) -> list[str]:
    return [part for pair in pairs for part in ("--set", pair)]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("cli")


@pytest.fixture(scope="module")
def run(folder: Path) -> Path:
    """A run trained by the command line on a user's file, from the folder of that file."""
    write_corpus(folder)
    done = textvae(
        "train", "lstm", "--out", "run",
        *settings("corpus.kind=files", "corpus.path=tiny.txt", *WORDS, *SMALL, "train.steps=30"),
        cwd=folder,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip() == "run"
    return folder / "run"


def fails(done: subprocess.CompletedProcess[str], status: int, *words: str) -> None:
    assert done.returncode == status, (done.stdout, done.stderr)
    assert "Traceback" not in done.stderr
    assert len(done.stderr.strip().splitlines()) <= 2
    for word in words:
        assert word in done.stderr


def test_help_answers_without_loading_torch() -> None:
    assert "Train sentence VAEs" in process("--help").stdout
    loaded = "import sys, cli; print(sorted({'torch', 'pydantic', 'numpy'} & set(sys.modules)))"
    assert subprocess.run([sys.executable, "-c", loaded], capture_output=True, text=True, check=True).stdout == "[]\n"


def test_a_process_ends_as_the_command_line_does_here(tmp_path: Path) -> None:
    for arguments in (["recipes"], ["measure", "nowhere"], ["nonsense"]):
        one, other = process(*arguments, cwd=tmp_path), textvae(*arguments, cwd=tmp_path)
        assert (one.returncode, one.stdout, one.stderr) == (other.returncode, other.stdout, other.stderr)


def test_recipes_and_show() -> None:
    listed = textvae("recipes", "--json")
    names = [recipe["name"] for recipe in json.loads(listed.stdout)]
    assert {"lstm", "plain"} <= set(names)
    lines = textvae("recipes").stdout.splitlines()
    assert (
        len({line.index(recipe["summary"]) for line, recipe in zip(lines, json.loads(listed.stdout), strict=True)}) == 1
    )
    shown = textvae("show", "plain", "--set", "model.latent_size=5")
    assert "latent_size: 5" in shown.stdout
    assert textvae("train", "plain", "--set", "model.latent_size=5", "--dry-run").stdout == shown.stdout


def test_a_dry_run_finds_a_bad_file_of_vectors(tmp_path: Path) -> None:
    path = tmp_path / "words.vec"
    path.write_text("2 128\ndog 1 2 3\n")
    space = f"model.space={{kind: file, path: {path}}}"
    done = textvae("train", "continuous", "--set", space, "--set", "model.embedding_size=128", "--dry-run")
    assert (done.returncode, done.stdout) == (1, "")
    assert "words.vec: line 2: 3 numbers after the word, where the first line says 128" in done.stderr


def test_names_complete(run: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    root = tmp_path / "runs"
    shutil.copytree(run, root / "lstm" / "2026-01-01_00-00-00_s0")
    monkeypatch.setenv("TEXTVAE_RUNS", str(root))
    monkeypatch.setenv("_TEXTVAE_COMPLETE", "bash_complete")
    for typed, expected in (("train pl", "plain,plain"), ("measure lst", "plain,lstm/2026-01-01_00-00-00_s0")):
        monkeypatch.setenv("COMP_WORDS", f"textvae {typed}")
        monkeypatch.setenv("COMP_CWORD", "2")
        assert process().stdout.split() == [expected]


def test_measure_prints_json_and_nothing_else_on_standard_output(run: Path, tmp_path: Path) -> None:
    done = textvae("measure", run, "--samples", "5", "--json", cwd=tmp_path)
    found = json.loads(done.stdout)
    for name in SCALARS:
        assert found[name]["low"] <= found[name]["high"], name
        if name not in ("bleu", "active_units"):  # a bootstrap of six sentences need not hold the value
            assert found[name]["low"] <= found[name]["value"] <= found[name]["high"], name
    assert len(found["kl_per_dimension"]) == 4
    assert sum(found["kl_per_dimension"]) == pytest.approx(found["kl"]["value"])
    assert found["verdict"] in ("collapsed", "partly used", "used")
    assert json.loads((run / "measures/test.json").read_text()) == found
    table = textvae("measure", run, "--samples", "5").stdout
    assert f"{found['nll']['value']:.2f}" in table
    assert "K = 5" in table


def test_measure_is_a_function_of_its_seed(run: Path) -> None:
    one, two, other = (
        textvae("measure", run, "--samples", "5", "--json", "--seed", seed).stdout for seed in ("3", "3", "4")
    )
    assert one == two
    assert one != other


def test_sample_reconstruct_and_interpolate(run: Path) -> None:
    samples = json.loads(textvae("sample", run, "-n", "7", "--json").stdout)
    assert len(samples) == 7
    assert samples == json.loads(textvae("sample", run, "-n", "7", "--json").stdout)
    assert len(textvae("sample", run, "-n", "3", "--decoding", "beam").stdout.splitlines()) == 3
    given = ["the dog saw me .", "a cat liked nothing ."]
    drawn = [textvae("reconstruct", run, *given, "--from-sample", "--seed", seed).stdout for seed in "112"]
    assert drawn[0] == drawn[1] != drawn[2]
    back = json.loads(textvae("reconstruct", run, *given, "--json").stdout)
    assert [row["text"] for row in back] == given
    for path in ("linear", "slerp"):
        walk = json.loads(textvae("interpolate", run, *given, "--steps", "5", "--path", path, "--json").stdout)["path"]
        assert [point["position"] for point in walk] == [0, 0.25, 0.5, 0.75, 1]
        assert [walk[0]["text"], walk[-1]["text"]] == [row["reconstruction"] for row in back]


def test_encode_writes_a_row_for_each_sentence(run: Path, tmp_path: Path) -> None:
    (tmp_path / "mine.txt").write_text("the dog saw me .\n\na cat liked nothing .\n", "utf-8")
    done = textvae("encode", run, "--file", "mine.txt", "--out", "z.parquet", cwd=tmp_path)
    assert done.returncode == 0
    assert "2 sentences, 1 empty lines skipped" in done.stdout
    table = pq.read_table(tmp_path / "z.parquet").to_pydict()
    assert (table["line"], table["num_tokens"], table["num_unknown"]) == ([1, 3], [6, 6], [0, 0])
    assert table["text"] == ["the dog saw me .", "a cat liked nothing ."]
    assert {len(row) for row in table["mean"]} == {4}
    assert all(value > 0 for row in table["standard_deviation"] for value in row)
    assert {path.name for path in tmp_path.iterdir()} == {"mine.txt", "z.parquet"}


def test_corpus_verbs(folder: Path) -> None:
    on_file = settings("corpus.kind=files", f"corpus.path={write_corpus(folder)}")
    found = json.loads(textvae("corpus", "stats", "lstm", *on_file, "--json").stdout)
    assert sum(split["sentences"] for split in found["splits"].values()) == 120
    assert "T, scored tokens per sentence" in textvae("corpus", "stats", "lstm", *on_file).stdout
    assert "108 / 6 / 6 sentences ready" in textvae("corpus", "prepare", "lstm", *on_file).stdout


def test_a_finished_run_resumes_to_nothing_new(run: Path, tmp_path: Path) -> None:
    shutil.copytree(run, tmp_path / "copy")
    done = textvae("train", "--resume", tmp_path / "copy")
    assert done.returncode == 0
    assert "resumed at step 30" in done.stderr
    longer = textvae("train", "--resume", tmp_path / "copy", "--set", "train.steps=31")
    assert longer.returncode == 0
    assert "train.steps was 30 and is 31" in longer.stderr
    assert (tmp_path / "copy/checkpoints/step-000031").is_dir()


@pytest.mark.parametrize(
    ("arguments", "status", "words"),
    [
        (["train", "ltsm"], 2, ["no such recipe", "lstm"]),
        (["train"], 2, ["RECIPE"]),
        (["train", "lstm", "--resume", "x"], 2, ["give a RECIPE, or --resume RUN"]),
        (["train", "--resume", "{run}", "--out", "x"], 2, ["--set alone"]),
        (["train", "--resume", "{run}", "--set", "model.latent_size=5"], 2, ["model.latent_size", "trained with 4"]),
        (["train", "lstm", "--set", "train.checkpoint_every=5"], 2, ["train.checkpoint_every", "string"]),
        (["train", "lstm", "--set", "objective.free_bit=0.5"], 2, ["objective.free_bit", "unexpected key", "0.5"]),
        (["train", "lstm", "--set", "model.latent_size=big"], 2, ["model.latent_size", "integer"]),
        (["train", "lstm", "--set", "rubbish"], 2, ["key.key=value"]),
        (["train", "lstm", "--set", "train.learning_rate=.inf"], 2, ["train.learning_rate", "finite"]),
        (["train", "lstm", "--set", "model.tie_weights=true", "--set", "model.hidden_size=8"], 2, ["tie_weights"]),
        (["quickstart", "--out", "no/where/report.html"], 2, ["no/where/report.html"]),
        (["quickstart", "--set", "corpus.kind=files"], 2, ["embedded corpus"]),
        (["sample", "{run}", "--seed", "-1"], 2, ["--seed"]),
        (["compare", "{run}", "--seed", "99999999999999999999"], 2, ["--seed", "0<=x<="]),
        (["sample", "{run}", "--decoding", "greedy", "--beam-size", "3"], 2, ["greedy --beam-size: unexpected key"]),
        (["sample", "{run}", "--decoding", "beam", "--beam-size", "101"], 2, ["beam --beam-size:", "equal to 100"]),
        (["sample", "{run}", "--decoding", "beam", "--beam-size", "0"], 2, ["beam --beam-size:", "equal to 1"]),
        (["sample", "{run}", "--top-p", "2", "--top-k", "-1"], 2, ["sampling --top-p:", "sampling --top-k:"]),
        (["predict", "{run}", "--images", "x", "--out", "y"], 2, ["run: predict needs a run of the image side"]),
        (["measure", "nowhere"], 2, ["no run found"]),
        (["measure", ""], 2, ["'RUN': it is empty"]),
        (["compare", "{run}", ""], 2, ["'RUNS...': it is empty"]),
        (["train", ""], 2, ["'[RECIPE]': it is empty"]),
        (["show", " "], 2, ["'RECIPE': it is empty"]),
        (["train", "--resume", ""], 2, ["'--resume': it is empty"]),
        (["sample", "{run}", "--checkpoint", ""], 2, ["'--checkpoint': it is empty"]),
        (["measure", "{run}", "--split", "dev"], 2, ["--split", "'dev' is not one of 'train', 'valid', 'test'"]),
        (["measure", "{run}", "--half-width", "0"], 2, ["--half-width", "0.0 is not in the range x>0"]),
        (["measure", "{run}", "--half-width", "nan"], 2, ["--half-width", "nan is not a finite number"]),
        (["measure", "{run}", "--samples", "0"], 2, ["--samples", "0"]),
        (["measure", "{run}", "--checkpoint", "step-000077"], 2, ["step-000077"]),
        (["interpolate", "{run}", "the dog saw me .", ""], 1, ["empty sentence"]),
        (["interpolate", "{run}", "the dog saw me .", "qqq xxx"], 1, ["qqq xxx", "vocabulary"]),
        (["interpolate", "{run}", "a", "b", "--steps", "1"], 2, ["--steps"]),
        (["reconstruct", "{run}"], 2, ["--file FILE"]),
        (["encode", "{run}", "--file", "none.txt", "--out", "z.parquet"], 1, ["none.txt"]),
        (["encode", "{run}", "--file", "{corpus}", "--out", "no/such/z.parquet"], 1, ["no/such/z.parquet: a file in"]),
        (["sample", "{run}", "--temperature", "0"], 2, ["sampling --temperature:"]),
        (["sample", "{run}", "--temperature", "nan"], 2, ["temperature"]),
        (["show", "quick"], 2, ["several recipes"]),
        (["nonsense"], 2, ["nonsense"]),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else str(value),
)
def test_a_wrong_call_ends_in_a_line_or_two(
    arguments: list[str], status: int, words: list[str], run: Path, tmp_path: Path
) -> None:
    filled = [each.format(run=run, corpus=run.parent / "tiny.txt") for each in arguments]
    fails(textvae(*filled, cwd=tmp_path), status, *words)
    assert list(tmp_path.iterdir()) == []  # nothing half-written


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (None, ["corpus.txt"]),
        (b"", ["corpus.txt"]),
        (b"\n\n\n", ["corpus.txt"]),
        (b"fine\nnot \xff fine\n", ["corpus.txt", "line 2"]),
        (b"one sentence\n", ["corpus.txt"]),
    ],
    ids=["missing", "empty", "empty lines", "not UTF-8", "too few"],
)
def test_a_bad_corpus_is_named_and_leaves_nothing(content: bytes | None, words: list[str], tmp_path: Path) -> None:
    path = tmp_path / "corpus.txt"
    if content is not None:
        path.write_bytes(content)
    done = textvae(
        "train", "lstm", "--out", tmp_path / "run", *settings("corpus.kind=files", f"corpus.path={path}", *SMALL)
    )
    fails(done, 1, *words)
    assert not (tmp_path / "run").exists()


def test_a_long_line_is_cut_and_counted_and_empty_lines_are_skipped(tmp_path: Path) -> None:
    lines = [*sentences(60), "", "word " * 200_000, ""]
    (tmp_path / "odd.txt").write_text("\n".join(lines), "utf-8")
    on_file = settings("corpus.kind=files", "corpus.path=odd.txt", "corpus.tokenizer.min_count=1", *SMALL)
    done = textvae("train", "lstm", "--out", "run", *on_file, "--set", "train.steps=2", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert "1 empty lines skipped" in done.stderr
    assert "1 long sentences cut to max_length" in done.stderr


def test_debug_shows_the_traceback(tmp_path: Path) -> None:
    done = process("--debug", "measure", "nowhere", cwd=tmp_path)
    assert done.returncode == 1
    assert "Traceback" in done.stderr


@pytest.mark.parametrize(("number", "status"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_an_interrupted_training_says_how_to_go_on(
    number: signal.Signals, status: int, folder: Path, run: Path, tmp_path: Path
) -> None:
    command = [sys.executable, "-m", "cli", "train", "lstm", "--out", str(tmp_path / "run")]
    command += settings("corpus.kind=files", f"corpus.path={folder / 'tiny.txt'}", *SMALL, "train.steps=100000")
    started = subprocess.Popen(
        command,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
        env=os.environ,
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.default_int_handler),  # a shell's `&` ignores it
    )
    deadline = time.monotonic() + 60
    while not (tmp_path / "run/checkpoints/step-000010").exists() and time.monotonic() < deadline:
        time.sleep(0.01)
    started.send_signal(number)
    try:
        _, errors = started.communicate(timeout=60)
    finally:
        started.kill()
    assert started.returncode == status
    assert f"textvae train --resume {tmp_path / 'run'}" in errors
    assert "Traceback" not in errors


def test_a_compiled_training_takes_the_same_steps_and_its_profile_is_written(folder: Path, run: Path) -> None:
    done = process(
        "train", "lstm", "--out", "compiled", "--profile",
        *settings("corpus.kind=files", "corpus.path=tiny.txt", *WORDS, *SMALL, "train.steps=32", "train.compile=true"),
        cwd=folder,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    compiled = folder / "compiled"
    log = (compiled / "log.txt").read_text()
    assert "compiled (train.compile=true)" in log
    assert re.search(r"compiling has taken [\d.]+ s", log)
    took = re.search(r"done: 32 steps, of which compiling took ([\d.]+) s", log)
    assert took is not None
    assert float(took[1]) > 0
    losses = [
        [json.loads(line)["loss"] for line in (path / "metrics.jsonl").read_text().splitlines()[:1]]
        for path in (run, compiled)
    ]
    assert losses[0] == pytest.approx(losses[1], rel=0.02)  # dropout's masks are drawn in another order
    table = (compiled / "profile.txt").read_text()
    assert table.startswith("10 steps")
    assert "aten::mm" in table or "aten::addmm" in table
    assert json.loads((compiled / "trace.json").read_text())["traceEvents"]
