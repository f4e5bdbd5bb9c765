"""Spoil whatever the project reads from outside, and see that it is read, or refused in a line.

    python -m benchmarks.fuzz --cases 20000
    python -m benchmarks.fuzz --target checkpoints --case 17

Each case is a copy of a valid example with a file or two spoiled, by a seed of its own, and is read in a process that
was forked from this one, with 10 s of the processor and 2 GiB. A finding is an error other than a ValueError or
OSError, one that names neither file nor key, a message of control characters or without end, a warning of a library's,
a process that dies, a case that takes longer, and a file that appears anywhere but in the case's folder: what a
poisoned pickle or YAML would leave. `--case` reads one case again, without a net.
"""

import argparse
import json
import os
import random
import re
import resource
import select
import shutil
import signal
import sys
import tempfile
import time
import traceback
import warnings
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Any

import torch
import torch._dynamo  # it comes with the first optimizer, and takes a second or two

from benchmarks.fuzz_mutations import spoil
from benchmarks.fuzz_targets import EXAMPLES, TARGETS, Target
from textvae.exits import shown

SECONDS = 10  # of the processor, for a case
WAIT = 30  # seconds of any kind: on a shared machine they are more
GRACE = 20  # more, until a process that hears no alarm is killed
MEMORY = 2**31  # bytes
LONGEST = 2_000  # characters of what is shown
NAMES_A_KEY = re.compile(r"\b(corpus|model|objective|update|train|sweep|measure)\b|--set|^lstm.yaml: ")
PROJECT = Path(__file__).parents[1]


class TooLong(BaseException):
    """No handler of errors may catch it."""


@dataclass
class Tally:
    """What became of a target's cases."""

    cases: int = 0
    refused: int = 0
    seconds: float = 0.0
    slowest: float = 0.0
    peak: int = 0  # resident bytes
    findings: Counter[str] = field(default_factory=Counter)
    firsts: dict[str, int] = field(default_factory=dict)  # the first case of each finding


def main(arguments: Sequence[str] | None = None) -> None:
    """Print a table in Markdown, and each finding with the case that repeats it; exit status 1 if there is one."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--cases", type=int, default=20_000)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--target", choices=[target.name for target in TARGETS], help="This one alone.")
    parser.add_argument("--case", type=int, help="Read this one again.")
    asked = parser.parse_args(arguments)
    torch.set_num_threads(1)  # a process with threads cannot be forked
    chosen = [target for target in TARGETS if asked.target in (None, target.name)]
    total = sum(target.weight for target in chosen)
    tallies: dict[str, Tally] = {}
    print("| what is read | cases | refused | seconds | slowest, s | peak memory, MiB | findings |")
    print("|---|---|---|---|---|---|---|", flush=True)
    with tempfile.TemporaryDirectory(prefix="fuzz-") as name:
        for target in chosen:
            root = Path(name) / target.name.replace(" ", "-")
            (root / "canary").mkdir(parents=True)
            in_child(lambda target=target, root=root: target.make(root / "examples"), root)
            if asked.case is not None:
                read_again(target, root, asked.seed, asked.case)
                return
            tallies[target.name] = fuzz(target, root, asked.seed, max(1, round(asked.cases * target.weight / total)))
            shutil.rmtree(root)
            print(row(target.name, [tallies[target.name]]), flush=True)
    print(row("all", list(tallies.values())))
    for name, tally in tallies.items():
        for finding, number in tally.findings.most_common():
            print(f"\n{name}, case {tally.firsts[finding]}, {number} times: {finding}")
    sys.exit(1 if any(tally.findings for tally in tallies.values()) else 0)


def row(name: str, tallies: Sequence[Tally]) -> str:
    """Of a table in Markdown."""
    cases, refused, seconds = (sum(getattr(of, what) for of in tallies) for what in ("cases", "refused", "seconds"))
    slowest, peak = max(of.slowest for of in tallies), max(of.peak for of in tallies)
    num_findings = sum(len(of.findings) for of in tallies)
    return f"| {name} | {cases:,} | {refused:,} | {seconds:.0f} | {slowest:.1f} | {peak >> 20:,} | {num_findings} |"


def in_child(work: Any, root: Path) -> None:
    """Do something in a process of its own, quietly. Raises RuntimeError if it failed."""
    child = os.fork()
    if child == 0:
        with muted(root):
            work()
    if os.waitpid(child, 0)[1]:
        raise RuntimeError((root / "noise").read_text("utf-8", "replace"))


class muted:  # noqa: N801
    """In a child: what it prints goes to a file, it stands in the canary's folder, and does not outlive the block."""

    def __init__(self, root: Path) -> None:
        self.root = root

    def __enter__(self) -> None:
        noise = os.open(self.root / "noise", os.O_WRONLY | os.O_CREAT | os.O_APPEND)
        os.dup2(noise, 1)
        os.dup2(noise, 2)
        os.chdir(self.root / "canary")
        os.environ |= {
            "HOME": str(self.root / "canary"),
            "TEXTVAE_CACHE": str(self.root / "cache"),
            "MPLCONFIGDIR": str(self.root / "matplotlib"),
            "HF_HUB_OFFLINE": "1",
        }
        EXAMPLES[:] = [self.root / "examples"]

    def __exit__(self, kind: Any, error: Any, trace: Any) -> None:
        if error is not None:
            traceback.print_exception(error)
        sys.stderr.flush()
        os._exit(error is not None)


def fuzz(target: Target, root: Path, seed: int, num_cases: int) -> Tally:
    """Read so many cases, in a new process after each that died."""
    tally = Tally()
    while tally.cases < num_cases:
        reading, writing = os.pipe()
        child = os.fork()
        if child == 0:
            os.close(reading)
            with muted(root), os.fdopen(writing, "w") as told:
                work(target, root, seed, range(tally.cases, num_cases), told)
        os.close(writing)
        listen(reading, tally, child)
        status = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
        os.close(reading)
        if status:
            note(tally, f"the process died with status {status}", 0.0, 0, False)
    return tally


def listen(reading: int, tally: Tally, child: int) -> None:
    """Take down what a process tells of its cases, until it ends or has been silent for too long."""
    left = b""
    while True:
        ready, _, _ = select.select([reading], [], [], WAIT + GRACE)
        if not ready:
            os.kill(child, signal.SIGKILL)
        data = os.read(reading, 65536)
        if not data:
            return
        *lines, left = (left + data).split(b"\n")
        for line in lines:
            note(tally, **json.loads(line))


def note(tally: Tally, finding: str, seconds: float, peak: int, refused: bool) -> None:
    """Count a case."""
    if finding:
        tally.findings[finding] += 1
        tally.firsts.setdefault(finding, tally.cases)
    tally.cases += 1
    tally.refused += refused
    tally.seconds += seconds
    tally.slowest = max(tally.slowest, seconds)
    tally.peak = max(tally.peak, peak)


def work(target: Target, root: Path, seed: int, cases: range, told: IO[str]) -> None:
    """Read cases one after the other, with little memory, and tell of each."""
    used = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
    resource.setrlimit(resource.RLIMIT_AS, (used + MEMORY, used + MEMORY))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    signal.signal(signal.SIGPROF, out_of_time)
    signal.signal(signal.SIGALRM, out_of_time)
    warnings.simplefilter("error")
    examples = sorted((root / "examples").iterdir())
    for number in cases:
        prepare(target, root, examples, seed, number)
        begun = time.monotonic()
        finding, refused = judge(target, root)
        seconds = time.monotonic() - begun
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
        told.write(json.dumps({"finding": finding, "seconds": seconds, "peak": peak, "refused": refused}) + "\n")
        told.flush()


def out_of_time(*_: Any) -> None:
    """What an alarm does."""
    raise TooLong


def prepare(target: Target, root: Path, examples: Sequence[Path], seed: int, number: int) -> None:
    """Copy an example, and spoil it."""
    rng = random.Random(f"{seed} {target.name} {number}")
    shutil.rmtree(root / "case", ignore_errors=True)
    shutil.rmtree(root / "cache", ignore_errors=True)
    shutil.copytree(rng.choice(examples), root / "case", symlinks=True)
    found = {path for pattern in target.spoiled for path in root.glob(f"case/{pattern}")}
    files = sorted(path for path in found if path.is_file() and not path.is_symlink())
    for path in rng.sample(files, min(len(files), rng.choice((1, 1, 1, 2)))):
        spoil(path, rng)
    target.mend(root / "case", rng)


def judge(target: Target, root: Path) -> tuple[str, bool]:
    """What is wrong with how a case is read, and whether it was refused."""
    signal.alarm(WAIT)
    signal.setitimer(signal.ITIMER_PROF, SECONDS)
    refused, finding = False, ""
    try:
        target.read(root / "case")
    except (ValueError, OSError) as error:
        refused, finding = True, unfit(error, root)
    except TooLong as error:
        finding = f"takes too long{place(error)}"
    except BaseException as error:
        finding = f"{type(error).__name__}: {str(error)[:100]}{place(error)}"
    finally:
        signal.alarm(0)
        signal.setitimer(signal.ITIMER_PROF, 0)
    if left := sorted(path.name for path in (root / "canary").iterdir()):
        finding = f"wrote {left} outside"
        shutil.rmtree(root / "canary")
        (root / "canary").mkdir()
        os.chdir(root / "canary")
    return re.sub(r"0x[0-9a-f]+|\d{4,}", "N", finding.replace(str(root), "")), refused


def unfit(error: Exception, root: Path) -> str:
    """Why an error is none that a user can be shown; nothing if it is one."""
    line = shown(error)
    kind = f"{type(error).__name__}: {line[:100]!r}{place(error)}"
    if getattr(error, "errno", None) == 12:
        return f"memory: {kind}"
    if line.count("\n") > 1 or len(line) > LONGEST:
        return f"{len(line):,} characters: {kind}"
    if any(not (character.isprintable() or character == "\n") for character in line):
        return f"control characters: {kind}"
    is_named = str(root / "case") in line or any(path.name in line for path in (root / "case").rglob("*"))
    return "" if is_named or NAMES_A_KEY.search(line) else f"names nothing: {kind}"


def place(error: BaseException) -> str:
    """Where in the project it came from, and the last place of all."""
    frames = traceback.extract_tb(error.__traceback__)
    ours = [
        frame
        for frame in frames
        if Path(frame.filename).is_relative_to(PROJECT) and not Path(frame.filename).name.startswith("fuzz")
    ]
    return "".join(f" at {Path(frame.filename).name}:{frame.lineno}" for frame in (*ours[-1:], *frames[-1:]))


def read_again(target: Target, root: Path, seed: int, number: int) -> None:
    """Show what one case is, and how it is read, in this process."""
    EXAMPLES[:] = [root / "examples"]
    os.environ["TEXTVAE_CACHE"] = str(root / "cache")
    prepare(target, root, sorted((root / "examples").iterdir()), seed, number)
    kept = Path(tempfile.mkdtemp(prefix="case-")) / "case"
    shutil.copytree(root / "case", kept, symlinks=True, ignore_dangling_symlinks=True)
    print(f"a copy: {kept}")
    target.read(root / "case")


if __name__ == "__main__":
    main()
