"""SIGINT and SIGTERM: the step is finished and saved, and the exit status says which it was."""

import os
import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from types import FrameType

SIGNALS = (signal.SIGINT, signal.SIGTERM)


class Stopped(KeyboardInterrupt):
    """A training that was asked to stop by a signal, and has; its exit status is 128 and the signal's number."""

    def __init__(self, number: signal.Signals, message: str = "") -> None:
        super().__init__(message)
        self.by, self.exit_code = number, 128 + number


@dataclass
class Interruption:
    """By which signal the training has been asked to stop, if it has."""

    by: signal.Signals | None = None


@contextmanager
def interruptible() -> Iterator[Interruption]:
    """Within the block a first signal asks to stop, and a second one of either kind stops at once.

    A signal that is ignored, as those of a shell's background job are, or not Python's to handle stays so; outside the
    main thread, which alone hears of signals, nothing changes.
    """
    asked = Interruption()

    def hear(number: int, frame: FrameType | None) -> None:
        if asked.by is not None:
            raise Stopped(signal.Signals(number))
        asked.by = signal.Signals(number)
        with suppress(OSError):  # not by print, in the middle of which the signal may have come
            os.write(2, f"{asked.by.name}: finishing the step and saving; once more stops at once\n".encode())

    if threading.current_thread() is not threading.main_thread():
        yield asked
        return
    before = {number: signal.getsignal(number) for number in SIGNALS}
    heard = [number for number in SIGNALS if before[number] not in (signal.SIG_IGN, None)]
    for number in heard:
        signal.signal(number, hear)
    try:
        yield asked
    finally:
        for number in heard:
            signal.signal(number, before[number])
