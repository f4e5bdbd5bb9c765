"""One process to a folder: who holds it, who is dead, and what a process does that has lost it."""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from faults import Killed, faulty

from latent.training import lock
from latent.training.lock import HOLDER, LOCK, LockedError, locked

HOLD = """
import pathlib, sys, time
from latent.training.lock import locked

with locked(pathlib.Path(sys.argv[1])):
    print("held", flush=True)
    time.sleep(100)
"""


def holder(folder: Path) -> dict[str, Any]:
    return json.loads((folder / LOCK / HOLDER).read_text("utf-8"))


def left_behind(folder: Path, **changes: Any) -> None:
    """A lock of this process, with these changes, which nobody holds."""
    with locked(folder):
        content = {**holder(folder), **changes}
    (folder / LOCK).mkdir()
    (folder / LOCK / HOLDER).write_text(json.dumps(content))


def dead_pid() -> int:
    ended = subprocess.Popen([sys.executable, "-c", ""])
    ended.wait()
    return ended.pid


def test_a_folder_is_held_and_given_back(tmp_path: Path) -> None:
    with locked(tmp_path / "new" / "run") as check:
        assert holder(tmp_path / "new" / "run")["pid"] == os.getpid()
        check()
        with (
            pytest.raises(LockedError, match=f"process {os.getpid()} on .*wait for it or stop it"),
            locked(tmp_path / "new" / "run"),
        ):
            pass
        check()
    assert list((tmp_path / "new" / "run").iterdir()) == []


def test_another_process_is_kept_out_until_it_is_killed(tmp_path: Path) -> None:
    other = subprocess.Popen([sys.executable, "-c", HOLD, str(tmp_path)], stdout=subprocess.PIPE, text=True)
    try:
        assert other.stdout is not None
        assert other.stdout.readline() == "held\n"
        with pytest.raises(LockedError, match=f"process {other.pid} on "), locked(tmp_path):
            pass
        other.kill()
        while (lock.PROC / str(other.pid) / "stat").read_text().rpartition(")")[2].split()[0] != "Z":
            pass  # a zombie: killed, and its parent has not yet asked
        with locked(tmp_path):
            assert holder(tmp_path)["pid"] == os.getpid()
    finally:
        other.kill()
        other.communicate()


@pytest.mark.parametrize(
    ("changes", "is_dead"),
    [
        ({"pid": dead_pid()}, True),
        ({"begun": "1"}, True),  # the number is another process's now
        ({"boot": "before"}, True),
        ({}, False),
        ({"host": "elsewhere", "pid": 2**22 + 1}, False),  # who can know?
        ({"names": "pid:[1]", "pid": 2**22 + 1}, False),  # a container's own numbers
        ({"pid": "1"}, False),
    ],
    ids=["ended", "other start", "other boot", "here", "other host", "other names", "no number"],
)
def test_a_dead_process_holds_nothing(changes: dict[str, Any], is_dead: bool, tmp_path: Path) -> None:
    left_behind(tmp_path, **changes)
    if is_dead:
        with locked(tmp_path):
            assert holder(tmp_path)["pid"] == os.getpid()
        return
    who = f"process {changes.get('pid', os.getpid())} on {changes.get('host', '')}"
    with (
        pytest.raises(LockedError, match=f"{who}.*if you know that it is dead, remove {tmp_path}/lock"),
        locked(tmp_path),
    ):
        pass
    assert holder(tmp_path).items() >= changes.items()


@pytest.mark.parametrize("content", ["", "[]", "{", "[" * 100_000, '{"host": 1}'])
def test_a_lock_that_cannot_be_read_is_respected(content: str, tmp_path: Path) -> None:
    (tmp_path / LOCK).mkdir()
    (tmp_path / LOCK / HOLDER).write_text(content)
    with pytest.raises(LockedError, match="process"), locked(tmp_path):
        pass


def test_where_the_system_tells_nothing_a_number_in_use_is_alive(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(lock, "PROC", tmp_path / "none")
    left_behind(tmp_path / "dead", pid=dead_pid())
    left_behind(tmp_path / "alive")
    with locked(tmp_path / "dead"):
        pass
    with pytest.raises(LockedError), locked(tmp_path / "alive"):
        pass


def test_a_process_that_has_lost_the_lock_is_told(tmp_path: Path) -> None:
    with locked(tmp_path) as check:
        (tmp_path / LOCK / HOLDER).write_text(json.dumps({"pid": 7, "host": "elsewhere"}))
        with pytest.raises(LockedError, match="process 7 on elsewhere has taken the run over"):
            check()
    assert holder(tmp_path)["pid"] == 7  # not ours to take away


def test_a_folder_that_cannot_be_written_is_named(tmp_path: Path) -> None:
    with (
        pytest.raises(OSError, match=f"{tmp_path}: a training writes there, and cannot \\(Read-only"),
        faulty(1, OSError(30, "Read-only file system")),
        locked(tmp_path),
    ):
        pass
    assert list(tmp_path.iterdir()) == []


def test_a_kill_while_the_lock_is_taken_keeps_nobody_out(tmp_path: Path) -> None:
    """But for the name of the process, which lives here, and so is another one's."""
    at = 0
    while True:
        folder = tmp_path / str(at)
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(lock.socket, "gethostname", lambda: "here")
            patch.setattr(lock, "_begun", lambda pid: "before")
            with faulty(at, Killed()) as counted:
                try:
                    with locked(folder):
                        pass
                    break
                except Killed:
                    pass
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(lock.socket, "gethostname", lambda: "here")
            patch.setattr(lock, "_begun", lambda pid: "now")
            with locked(folder):
                pass
        assert list(folder.iterdir()) == []
        at += 1
    assert counted.number == at > 6
