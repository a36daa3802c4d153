"""What Ctrl-C and SIGTERM do, in one place: end at once outside a run; finish and save inside one."""

from __future__ import annotations

import contextlib
import os
import signal
import threading
from collections.abc import Callable, Generator
from typing import Any

__all__ = ["caught_signals", "ignore_interrupts", "leave_on_interrupt", "leaving_with", "screened_interrupts"]


def leave_on_interrupt(note: str = "interrupted") -> None:
    """Let Ctrl-C end the process at once, with a word on the error stream, until another handler is set.

    A KeyboardInterrupt could be lost: raised inside a callback of JAX's, it is printed and ignored. Nothing needs to be
    undone, because every file is written atomically. Where SIGINT is ignored, as for a job in the background, or
    somebody's handler is set, it stays as it is.
    """

    def leave(signum: int, frame: Any) -> None:
        os.write(2, f"{note}\n".encode())
        os._exit(128 + signum)

    if threading.current_thread() is threading.main_thread():
        before = signal.getsignal(signal.SIGINT)
        if before is signal.default_int_handler or getattr(before, "leaves", False):
            leave.leaves = True  # ty: ignore[missing-attribute]
            signal.signal(signal.SIGINT, leave)


def leaving_with(note: str) -> None:
    """Change what the handler of `leave_on_interrupt` says; nothing where another one is set, as by a Python caller."""
    if getattr(signal.getsignal(signal.SIGINT), "leaves", False):
        leave_on_interrupt(note)


def ignore_interrupts() -> None:
    """Ignore Ctrl-C: in a worker process, since it reaches the whole group and the parent answers it."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)


@contextlib.contextmanager
def screened_interrupts(let_through: Callable[[], bool]) -> Generator[None]:
    """Ask `let_through` at each Ctrl-C whether it takes its usual effect; where SIGINT is ignored, it stays ignored."""
    before = signal.getsignal(signal.SIGINT)
    if not callable(before) or threading.current_thread() is not threading.main_thread():
        yield
        return

    def handle(signum: int, frame: Any) -> None:
        if let_through():
            before(signum, frame)

    signal.signal(signal.SIGINT, handle)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)


@contextlib.contextmanager
def caught_signals(note: str = "", *, once: bool = True) -> Generator[list[int]]:
    """Collect SIGINT and SIGTERM in the list, instead of being ended by them; say `note` when the first arrives.

    With `once`, a second signal takes its usual effect at once.
    """
    caught: list[int] = []
    if threading.current_thread() is not threading.main_thread():
        yield caught  # Python delivers signals to the main thread only
        return
    previous = {s: signal.getsignal(s) for s in (signal.SIGINT, signal.SIGTERM)}

    def catch(signum: int, frame: Any) -> None:
        caught.append(signum)
        if once:
            signal.signal(signum, signal.SIG_DFL)
        if note and len(caught) == 1:
            with contextlib.suppress(OSError):  # not print, which refuses to be called while the main program prints
                os.write(2, f"{note}\n".encode())

    for signum in previous:
        signal.signal(signum, catch)
    try:
        yield caught
    finally:
        for signum, handler in previous.items():
            signal.signal(signum, handler)
