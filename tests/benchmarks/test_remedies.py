"""The remedies' table: its rows differ from the plain one in what they name, and it can be stopped and called again."""

import sys
from pathlib import Path

import pytest
from tiny import sentences

from latent.reporting.comparability import differing_settings
from latent.training import Run
from latent.training.checkpoints import list_checkpoints

sys.path.insert(0, str(Path(__file__).parents[2] / "benchmarks"))

import remedies

STEPS, PER_EPOCH = 3000, 300


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("data") / "ptb"
    folder.mkdir()
    lines = sentences(140)
    for name, part in {"train": lines[:100], "valid": lines[100:120], "test": lines[120:]}.items():
        (folder / f"{name}.txt").write_text("\n".join(part) + "\n", "utf-8")
    return folder.parent


def called(data: Path, out: Path, *options: str) -> str:
    small = [f"--set=model.{name}_size=8" for name in ("embedding", "hidden")]
    common = ["--data", str(data), "--out", str(out), "--samples=4", "--set=train.tokens_per_batch=200", *small]
    remedies.main([*common, *options])
    return (out / "remedies.md").read_text("utf-8")


@pytest.mark.parametrize("name", remedies.ROWS)
def test_a_row_differs_from_the_plain_one_in_the_parts_that_it_names(name: str, data: Path) -> None:
    plain, other = (remedies.row_recipe(each, data, STEPS, PER_EPOCH, 1) for each in ("plain", name))
    parts = remedies.ROWS[name].parts
    changed = differing_settings([plain, other])
    assert [key for key in changed if not f"{key}.".startswith(tuple(f"{part}." for part in parts))] == []
    assert all(any(f"{key}.".startswith(f"{part}.") for key in changed) for part in parts)
    if "train.learning_rate" not in parts:
        assert other.train == plain.train
    assert other.train.num_steps(PER_EPOCH) == STEPS


def test_the_language_model_is_the_others_decoder(data: Path) -> None:
    lm, plain = (remedies.row_recipe(each, data, STEPS, PER_EPOCH, 0).model for each in (remedies.BASELINE, "plain"))
    for key in ("embedding_size", "hidden_size", "word_dropout", "dropout_in", "dropout_out", "tie_weights"):
        assert getattr(lm, key) == getattr(plain, key), key


def test_warm_ups_and_first_stages_end_within_the_training(data: Path) -> None:
    for name in remedies.ROWS:
        recipe = remedies.row_recipe(name, data, STEPS, PER_EPOCH, 0)
        for schedule in recipe.objective.schedules.values():
            # a sigmoid is never quite at its end
            assert schedule(STEPS - 1) == pytest.approx(schedule(10 * STEPS), abs=1e-5), name
    fbp = remedies.row_recipe("fbp2019", data, STEPS, PER_EPOCH, 0)
    assert fbp.objective.kl_weight(fbp.update.steps) == 0 < fbp.objective.kl_weight(fbp.update.steps + 1)


def test_a_table_that_was_stopped_is_gone_on_with(
    data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    resume, stops = remedies.start_run, iter([False, True])

    def stopped(*arguments: object) -> Run:
        if next(stops):
            raise KeyboardInterrupt
        return resume(*arguments)

    monkeypatch.setattr(remedies, "start_run", stopped)
    with pytest.raises(SystemExit) as ended:
        called(data, tmp_path, "--epochs=3", "--only", "plain", "lstm_lm")
    assert ended.value.code == 130
    assert "call again to go on" in capsys.readouterr().err
    rows = (tmp_path / "remedies.md").read_text("utf-8").splitlines()
    assert [row.split(" | ")[0] for row in rows[4:]] == ["| lstm_lm"]
    monkeypatch.setattr(remedies, "start_run", resume)
    assert len(called(data, tmp_path, "--epochs=3", "--only", "plain").splitlines()) == 6
    measured_at = (tmp_path / "lstm_lm_s0/measures/test.json").stat().st_mtime_ns
    rows = called(data, tmp_path, "--epochs=3", "--seeds", "0", "1", "--only", "lstm_lm", "plain").splitlines()[4:]
    assert (tmp_path / "lstm_lm_s0/measures/test.json").stat().st_mtime_ns == measured_at
    assert [row.split(" | ")[:2] for row in rows] == [["| lstm_lm", "0, 1"], ["| plain", "0, 1"]]
    assert rows[0].split(" | ")[4] == "–"
    assert "seeds [" in rows[1].split(" | ")[4]
    assert (tmp_path / "remedies.png").read_bytes().startswith(b"\x89PNG")
    steps = [list_checkpoints(path / "checkpoints")[0][-1].step for path in tmp_path.glob("*_s*")]
    assert len(steps) == 4
    assert len(set(steps)) == 1


def test_another_training_in_the_folder_is_refused(data: Path, tmp_path: Path) -> None:
    called(data, tmp_path, "--epochs=1", "--only", "lstm_lm")
    with pytest.raises(
        ValueError, match=r"lstm_lm_s0: holds a training with another .*train\.steps.*choose another --out"
    ):
        called(data, tmp_path, "--epochs=2", "--only", "lstm_lm")
