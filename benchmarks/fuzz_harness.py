"""How a case is read, and judged: in a forked process, with little memory and time, which tells of it."""

import json
import os
import random
import re
import resource
import select
import shutil
import signal
import sys
import time
import traceback
import warnings
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Any

from benchmarks.fuzz_examples import EXAMPLES
from benchmarks.fuzz_mutations import spoil
from benchmarks.fuzz_targets import Target
from textvae.exits import shown

SECONDS = 10  # of the processor, for a case
WAIT = 30  # seconds of any kind: on a shared machine they are more
GRACE = 20  # more, until a process that hears no alarm is killed
MEMORY = 2**31  # bytes
LONGEST = 2_000  # characters of what is shown
NAMES_A_KEY = re.compile(r"\b(corpus|model|objective|update|train|sweep|measure)\b|--set|^lstm.yaml: ")
PROJECT = Path(__file__).parents[1]
Read = Callable[[str, random.Random], None]  # a case by its name, of its chance


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
    case: str = ""  # which is read
    findings: Counter[str] = field(default_factory=Counter)
    firsts: dict[str, str] = field(default_factory=dict)  # the first case of each finding


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


def told_of(
    target: Target,
    root: Path,
    goes_on: Callable[[Tally], bool],
    work: Callable[[Tally, Read], None],
) -> Tally:
    """Read cases in a process, and in a new one after each that ended."""
    tally = Tally()
    while goes_on(tally):
        reading, writing = os.pipe()
        child = os.fork()
        if child == 0:
            os.close(reading)
            with muted(root), os.fdopen(writing, "w") as told:
                work(tally, reader(target, root, told))
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
        for line in map(json.loads, lines):
            if "case" in line:
                tally.case = line["case"]
            else:
                note(tally, **line)
                tally.case = ""


def note(tally: Tally, finding: str, seconds: float, peak: int, refused: bool) -> None:
    """Count a case."""
    if finding:
        tally.findings[finding] += 1
        tally.firsts.setdefault(finding, tally.case)
    tally.cases += 1
    tally.refused += refused
    tally.seconds += seconds
    tally.slowest = max(tally.slowest, seconds)
    tally.peak = max(tally.peak, peak)


def reader(target: Target, root: Path, told: IO[str]) -> Read:
    """What reads a case in a child, with little memory, and tells of it."""
    examples = sorted((root / "examples").iterdir())
    limit()

    def read(case: str, rng: random.Random) -> None:
        print(json.dumps({"case": case}), file=told, flush=True)
        prepare(target, root, examples, rng)
        begun = time.monotonic()
        finding, refused = judge(target, root)
        seconds = time.monotonic() - begun
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
        outcome = {"finding": finding, "seconds": seconds, "peak": peak, "refused": refused}
        print(json.dumps(outcome), file=told, flush=True)

    return read


def limit() -> None:
    """Take little memory and time, and let warnings be errors."""
    used = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
    resource.setrlimit(resource.RLIMIT_AS, (used + MEMORY, used + MEMORY))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    signal.signal(signal.SIGPROF, out_of_time)
    signal.signal(signal.SIGALRM, out_of_time)
    warnings.simplefilter("error")


def out_of_time(*_: Any) -> None:
    """What an alarm does."""
    raise TooLong


def prepare(target: Target, root: Path, examples: Sequence[Path], rng: random.Random) -> None:
    """Copy an example, and spoil it."""
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
