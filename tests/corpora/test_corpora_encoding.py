"""A corpus that is encoded block by block: in how much memory, by how many processes, and after what has gone wrong."""

import errno
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

from corpora import Files, TokenizerConfig, encoding, load_splits
from corpora.workers import WORKERS, in_order, num_workers

ROOT = Path(__file__).parents[2]
BLOCK = 400  # bytes, so that a small text has many blocks


def write_text(folder, num=600, labelled=False):
    """Train, valid and test: some lines are empty, some have rare words."""
    folder.mkdir(exist_ok=True)
    for name, size in {"train": num, "valid": 40, "test": 40}.items():
        lines = [f"w{i % 7} w{i % 11} é{i % 13}" + " w0" * (i % 9) if i % 10 else "" for i in range(size)]
        rows = [f"{i % 3}\t{line}" if labelled and line else line for i, line in enumerate(lines)]
        (folder / f"{name}.txt").write_text("\n".join(rows), "utf-8")
    return folder


@pytest.fixture
def text(tmp_path, monkeypatch):
    monkeypatch.setattr("corpora.files.BLOCK_BYTES", BLOCK)
    monkeypatch.setenv(WORKERS, "1")
    return write_text(tmp_path / "text")


def entry(cache):
    """The bytes of the one entry; nothing is left beside it."""
    (folder,) = cache.iterdir()
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def parts(cache):
    return sorted(cache.glob(".*-parts/part-*.part"))


def encode_and_be_killed(text, at):
    """In another process, which is gone when it stores the part of that number."""
    code = (
        "import os, signal, sys; from pathlib import Path; from corpora import Files, encoding, files, load_splits\n"
        f"files.BLOCK_BYTES = {BLOCK}\n"
        "write = encoding.write_part\n"
        "def written(path, arrays):\n"
        f"    if path.stem == 'part-{at:06d}': os.kill(os.getpid(), signal.SIGKILL)\n"
        "    write(path, arrays)\n"
        "encoding.write_part = written\n"
        f"load_splits(Files(path=Path({str(text)!r})))"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, timeout=120)
    assert (done.returncode, done.stderr) == (-signal.SIGKILL, "")


def test_the_number_of_blocks_and_of_workers_changes_no_byte(text, cache, monkeypatch):
    write_text(text, labelled=True)
    corpus, found = Files(path=text, labelled=True), []
    for block_bytes, workers in ((2**22, 1), (BLOCK, 1), (BLOCK, 2), (1, 1)):
        monkeypatch.setattr("corpora.files.BLOCK_BYTES", block_bytes)
        monkeypatch.setenv(WORKERS, str(workers))
        monkeypatch.setenv("TEXTVAE_CACHE", str(cache / f"{block_bytes} {workers}"))
        load_splits(corpus)
        found.append(entry(cache / f"{block_bytes} {workers}"))
    assert all(each == found[0] for each in found)


def test_a_killed_encoding_goes_on_where_it_was(text, cache, monkeypatch):
    encode_and_be_killed(text, at=9)
    assert [path.stem for path in parts(cache)] == [f"part-{number:06d}" for number in range(9)]
    encoded = []
    monkeypatch.setattr(encoding, "encode_and_count_cuts", recorded(encoding.encode_and_count_cuts, encoded))
    monkeypatch.setattr(encoding, "_look", None)  # the vocabulary is known already
    load_splits(Files(path=text))
    num_blocks = len(list(Files(path=text).read()))
    assert len(encoded) == num_blocks - 9 > 9
    resumed = entry(cache)
    monkeypatch.undo()
    monkeypatch.setenv("TEXTVAE_CACHE", str(cache / "fresh"))
    load_splits(Files(path=text))
    assert entry(cache / "fresh") == resumed


def recorded(function, calls):
    def call(*arguments):
        calls.append(arguments)
        return function(*arguments)

    return call


@pytest.mark.parametrize(
    "damage",
    [
        lambda path: path.write_bytes(path.read_bytes()[:-50]),
        lambda path: path.write_bytes(b""),
        lambda path: path.write_bytes(flipped(path.read_bytes())),
    ],
    ids=["cut short", "empty", "flipped bit"],
)
@pytest.mark.parametrize("name", ["part-000003.part", "survey.part"])
def test_a_damaged_part_is_found_and_made_anew(text, cache, damage, name, caplog):
    encode_and_be_killed(text, at=9)
    (path,) = cache.glob(f".*-parts/{name}")
    damage(path)
    load_splits(Files(path=text))
    assert f"{name} is damaged and is made anew" in caplog.text
    resumed = entry(cache)
    load_splits(Files(path=write_text(cache.parent / "copy")))
    assert entry(cache) == resumed  # of the same text: the same entry


@pytest.mark.parametrize(
    "damage",
    [
        lambda path: (path.unlink(), os.mkfifo(path)),
        lambda path: (path.unlink(), path.mkdir()),
        lambda path: (path.unlink(), path.symlink_to("/dev/zero")),
        lambda path: os.truncate(path, 2**40),
        lambda path: path.write_bytes(bytes(2**20)),
        lambda path: path.write_bytes(path.read_bytes()[40:]),
    ],
    ids=["pipe", "folder", "device", "hole", "zeros", "without its checksum"],
)
def test_what_is_no_part_is_made_anew(damage, tmp_path, caplog):
    path, arrays = tmp_path / "a.part", {"a": np.arange(5)}
    encoding.write_part(path, arrays)
    damage(path)
    assert encoding.read_part(path) is None
    assert "a.part is damaged and is made anew" in caplog.text
    encoding.write_part(path, arrays)
    np.testing.assert_array_equal(encoding.read_part(path)["a"], arrays["a"])


def flipped(data):
    at = len(data) // 3
    return data[:at] + bytes([data[at] ^ 1]) + data[at + 1 :]


def test_errors_name_the_line_in_whichever_block_it_is(text, monkeypatch):
    lines = (text / "train.txt").read_bytes().split(b"\n")
    lines[450] = b"caf\xe9"
    (text / "train.txt").write_bytes(b"\n".join(lines))
    offset = sum(len(line) + 1 for line in lines[:450]) + 3
    with pytest.raises(
        ValueError, match=rf"train.txt: line 451: byte 0xe9 at offset {offset} of the file is not UTF-8"
    ):
        load_splits(Files(path=text))
    monkeypatch.setenv(WORKERS, "2")
    with pytest.raises(ValueError, match=r"train.txt: line 451: byte 0xe9"):
        load_splits(Files(path=text))
    monkeypatch.setenv(WORKERS, "1")
    write_text(text, labelled=True)
    (text / "valid.txt").write_text("0\ta\n" * 300 + "no label\n")
    with pytest.raises(ValueError, match=r"valid.txt: line 301: no label before a TAB"):
        load_splits(Files(path=text, labelled=True))
    (text / "valid.txt").write_text("0\ta\n" * 300 + "7\ta\n" + "8\ta\n")
    with pytest.raises(ValueError, match=r"valid.txt: line 301: label '7' does not occur in the training split"):
        load_splits(Files(path=text, labelled=True))


def test_a_line_that_is_no_sentence_is_refused(text, monkeypatch):
    monkeypatch.setattr("corpora.files.MAX_LINE", 1000)
    (text / "test.txt").write_text("a\n" * 500 + "b" * 2000 + "\nc\n")
    with pytest.raises(ValueError, match=r"test.txt: line 501: of 1,000 bytes or more, which is no sentence"):
        load_splits(Files(path=text))


def test_a_long_file_is_cut_by_digest_and_another_corpus_than_before(tmp_path, monkeypatch):
    path = tmp_path / "all.txt"
    path.write_text("".join(f"s {i}\n" for i in range(1000)), "utf-8")
    corpus = Files(path=path)
    before, counted = corpus.fingerprint(), load_splits(corpus)
    monkeypatch.setattr("corpora.cuts.MOST_COUNTED", 999)
    assert corpus.fingerprint() != before
    found = load_splits(corpus)
    assert sum(len(split) for split in found.by_name().values()) == 1000
    assert len(found.test) == pytest.approx(50, abs=4 * np.sqrt(1000 * 0.05 * 0.95))
    assert found.test.tokens.tolist() != counted.test.tokens.tolist()
    path.write_text("s\n" * 1000, "utf-8")
    with pytest.raises(ValueError, match=r"all.txt: too few distinct sentences, none of which falls to"):
        load_splits(corpus)


def test_a_full_disk_is_told_and_what_is_done_stays(text, cache, monkeypatch):
    write = encoding.write_part

    def full(path, arrays):
        if path.stem == "part-000005":
            raise OSError(errno.ENOSPC, "No space left on device")
        write(path, arrays)

    monkeypatch.setattr(encoding, "write_part", full)
    with pytest.raises(
        ValueError, match=r"-parts: cannot keep what is encoded \(No space left on device\); .* run again"
    ):
        load_splits(Files(path=text))
    assert len(parts(cache)) == 5


MEMORY = """
import sys; from pathlib import Path; from corpora import Files, TokenBatches, load_splits
def most(): return int(next(r for r in open("/proc/self/status") if r.startswith("VmHWM")).split()[1]) / 2**10
load_splits(Files(path=Path(sys.argv[1]))); before = most()
splits = load_splits(Files(path=Path(sys.argv[2]))); batches = TokenBatches(splits.train, 2048, 0)
for index in range(0, batches.num_batches, 50): batches[index]
print(len(splits.train), most() - before)
"""


def test_memory_does_not_grow_with_the_text(tmp_path):
    """Of 440,000 sentences of 150 bytes: 86 MiB here, and 223 when all of them were read at once."""
    small, large = write_text(tmp_path / "small"), write_text(tmp_path / "large")
    rng = np.random.default_rng(0)
    lines = [" ".join(f"word{i}" for i in rng.integers(1000, 9999, 17)) for _ in range(2_000)]
    (large / "train.txt").write_text("".join(f"{line}\n" for line in lines * 220), "utf-8")
    found = subprocess.run(
        [sys.executable, "-c", MEMORY, str(small), str(large)],
        cwd=ROOT, capture_output=True, text=True, check=True, env={**os.environ, WORKERS: "1"},
    )  # fmt: skip
    num, grown = found.stdout.split()
    assert int(num) == 440_000
    assert float(grown) < 130


def test_how_many_workers(monkeypatch):
    monkeypatch.delenv(WORKERS, raising=False)
    assert 1 <= num_workers() <= min(2, os.cpu_count())
    monkeypatch.setenv(WORKERS, "7")
    assert num_workers() == 7
    for bad in ("0", "-1", "two", "", "9" * 20):
        monkeypatch.setenv(WORKERS, bad)
        with pytest.raises(ValueError, match=f"{WORKERS}: a number of processes from 1 to 1024 is needed, not '{bad}'"):
            num_workers()


def test_results_come_in_order_and_items_are_read_but_a_few_ahead():
    read = []

    def items():
        for number in range(40):
            read.append(number)
            yield -number

    found = in_order(abs, items(), 2)
    assert [next(found) for _ in range(3)] == [0, 1, 2]
    assert len(read) <= 12
    assert list(found) == list(range(3, 40))
    assert list(in_order(abs, iter([-1, 2]), 2)) == [1, 2]


def test_a_killed_worker_is_told_in_a_line():
    with pytest.raises(ValueError, match=f"a worker .* was killed.*; what is done stays: run again, with {WORKERS}=1"):
        list(in_order(os._exit, [1] * 8, 2))


def test_workers_go_with_a_killed_parent():
    code = "import time; from corpora.workers import in_order; list(in_order(time.sleep, [0.01] * 4 + [60] * 20, 2))"
    with subprocess.Popen([sys.executable, "-c", code], cwd=ROOT) as parent:
        children = Path(f"/proc/{parent.pid}/task/{parent.pid}/children")
        workers = wait_for(lambda: [p for p in children.read_text().split() if has_begun(p)][1:])
        parent.kill()
    wait_for(lambda: not any(is_running(worker) for worker in workers))


def wait_for(found, seconds=60):
    end = time.monotonic() + seconds
    while not (result := found()):
        assert time.monotonic() < end
        time.sleep(0.05)
    return result


def has_begun(pid):
    """Two threads: the worker watches its parent."""
    return is_running(pid) and len(list(Path(f"/proc/{pid}/task").iterdir())) > 1


def is_running(pid):
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except (FileNotFoundError, ProcessLookupError):
        return False


def test_pieces_of_blocks_are_learned_as_of_the_whole(text, monkeypatch):
    config = TokenizerConfig(kind="unigram", vocabulary_size=40)
    first = load_splits(Files(path=text, tokenizer=config)).tokenizer.to_bytes()
    monkeypatch.setattr("corpora.files.BLOCK_BYTES", 2**22)
    assert load_splits(Files(path=text, tokenizer=config, max_length=99)).tokenizer.to_bytes() == first
