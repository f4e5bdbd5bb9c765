"""One process to a run folder: `RUN/lock/holder.json` names it.

The lock is a folder that is renamed into place with the holder's name in it. A rename onto a folder that is not empty
fails on every file system, those of the network included, where `flock` may be missing or mean nothing.
"""

import json
import os
import shutil
import socket
import time
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from latent.training.files import read_json, sweep, temporary_name, write_synced

LOCK, HOLDER = "lock", "holder.json"
PROC = Path("/proc")
Holder = dict[str, Any]


class LockedError(ValueError):
    """Another process trains in the folder."""

    exit_code = 2


@contextmanager
def locked(folder: Path) -> Iterator[Callable[[], None]]:
    """Hold the folder, which is made if need be; give what raises LockedError once another process has taken it over.

    Raises LockedError naming process and host if one holds it that is not known to be dead.
    """
    ours = _this_process()
    try:
        folder.mkdir(parents=True, exist_ok=True)
        _take(folder / LOCK, ours)
    except OSError as error:
        raise OSError(f"{folder}: a training writes there, and cannot ({error.strerror or error})") from error

    def check() -> None:
        holder = _holder(folder / LOCK)
        if holder is not None and holder != ours:
            raise LockedError(f"{folder}: {_named(holder)} has taken the run over; this one has stopped writing to it")

    try:
        yield check
    finally:
        if _holder(folder / LOCK) == ours:
            _remove(folder / LOCK)


def _take(path: Path, ours: Holder) -> None:
    temporary = temporary_name(path)
    shutil.rmtree(temporary, ignore_errors=True)  # a dead process may have had our number
    temporary.mkdir()
    try:
        write_synced(temporary / HOLDER, json.dumps(ours, indent=1).encode())
        while True:
            try:
                temporary.rename(path)
                break
            except OSError:
                if not path.is_dir():
                    raise
            holder = _holder(path)
            if not _is_dead(holder):
                raise LockedError(
                    f"{path.parent}: {_named(holder)} trains in it; wait for it or stop it, "
                    f"or, if you know that it is dead, remove {path}"
                )
            _remove(path)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)
    sweep(path.parent, LOCK)


def break_lock(folder: Path) -> None:
    """Take away the lock of a process whose machine is known to be gone, wherever that was.

    Should it live after all, out of reach, it finds the next one's lock before it writes, and stops.
    """
    _remove(folder / LOCK)


def _remove(path: Path) -> None:
    """Take the lock away under another name first, so that of two processes that try only one does."""
    away = temporary_name(path, "old")
    with suppress(FileNotFoundError):
        path.rename(away)
    shutil.rmtree(away, ignore_errors=True)


def _holder(path: Path) -> Holder | None:
    try:
        holder = read_json(path / HOLDER)
    except (OSError, ValueError):
        return None
    return holder if type(holder) is dict else None


def _named(holder: Holder | None) -> str:
    return f"process {holder.get('pid')} on {holder.get('host')}" if holder else "an unknown process"


def _is_dead(holder: Holder | None) -> bool:
    """Whether no such process can be running: only of this host can that be known, and of its own process names."""
    here = _this_process()
    if holder is None or holder.get("host") != here["host"]:
        return False
    if holder.get("boot") != here["boot"]:
        return True
    pid = holder.get("pid")
    if holder.get("names") != here["names"] or type(pid) is not int:
        return False
    return _begun(pid) != holder.get("begun")


def _this_process() -> Holder:
    names = PROC / "self/ns/pid"  # within which process ids mean something: a container has its own
    return {
        "pid": os.getpid(),
        "host": socket.gethostname(),
        "begun": _begun(os.getpid()),
        "boot": _read(PROC / "sys/kernel/random/boot_id"),
        "names": os.readlink(names) if names.is_symlink() else "",
        "key": uuid.uuid4().hex,
        "since": time.strftime("%Y-%m-%d %H:%M:%S"),
    }


def _begun(pid: int) -> str:
    """When a process began, nothing if there is none: its number may have been given to another one since.

    Where the system does not tell when, a process of that number counts as the same.
    """
    if (PROC / "self/stat").exists():
        after_name = _read(PROC / str(pid) / "stat").rpartition(")")[2].split()
        return after_name[19] if after_name and after_name[0] not in "ZX" else ""
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return ""
    except PermissionError:
        pass
    return "running"


def _read(path: Path) -> str:
    try:
        return path.read_text("utf-8").strip()
    except OSError:
        return ""
