"""A progress bar with rate and time left; silent where the output is not a terminal."""

from __future__ import annotations

import time
from typing import Any

__all__ = ["Progress"]

REDRAW_SECONDS = 0.1


class Progress:
    """One bar for a run of `total` steps, with a label at its left.

    The `start` steps that were done when this process began do not count for the rate. Nothing is drawn where the
    console is not a terminal, or `enabled` is False.
    """

    def __init__(self, total: int, start: int = 0, *, enabled: bool = True, label: str = "") -> None:
        self._bar: Any = None
        self._next = 0.0
        if not enabled:
            return
        from rich import progress as rich
        from rich.console import Console

        console = Console(stderr=True)
        if not console.is_terminal:
            return
        self._bar = rich.Progress(
            rich.TextColumn("{task.description}", markup=False),
            rich.BarColumn(),
            rich.MofNCompleteColumn(),
            rich.TextColumn("{task.fields[rate]}"),
            rich.TimeElapsedColumn(),
            rich.TimeRemainingColumn(),
            rich.TextColumn("{task.fields[note]}", markup=False),
            console=console,
            auto_refresh=False,  # no thread: the loop redraws, at most ten times a second
        )
        self._bar.start()
        self._task = self._bar.add_task(label, total=total, completed=start, rate="", note="")

    def update(self, step: int, note: str | None = None) -> None:
        """Show that `step` steps are done; `note` is a short text at the right."""
        now = time.monotonic()
        if self._bar is None or (note is None and now < self._next):
            return
        self._next = now + REDRAW_SECONDS
        speed = self._bar.tasks[0].speed
        fields: dict[str, Any] = {} if note is None else {"note": note}
        self._bar.update(self._task, completed=step, rate=f"{speed:.3g} steps/s" if speed else "", **fields)
        self._bar.refresh()

    def close(self) -> None:
        """Leave the bar as it stands."""
        if self._bar is not None:
            self._bar.refresh()
            self._bar.stop()
            self._bar = None
