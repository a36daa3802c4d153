"""A progress bar with rate and time left; silent where the output is not a terminal."""

from __future__ import annotations

import time
from typing import Any

__all__ = ["Progress"]

REDRAW_SECONDS = 0.1


class Progress:
    """One bar for a run of `total` steps.

    Args:
        total: steps at the end.
        start: steps already done when this process began: they do not count for the rate.
        enabled: False draws nothing; a console that is not a terminal draws nothing either.
        label: what runs, at the bar's left.
    """

    def __init__(self, total: int, start: int = 0, *, enabled: bool = True, label: str = "") -> None:
        self._bar: Any = None
        self._next = 0.0
        if not enabled:
            return
        from rich.console import Console
        from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeElapsedColumn
        from rich.progress import Progress as RichProgress

        console = Console(stderr=True)
        if not console.is_terminal:
            return
        self._start, self._total, self._began = start, total, time.monotonic()
        self._bar = RichProgress(
            TextColumn("{task.description}", markup=False),
            BarColumn(),
            MofNCompleteColumn(),
            TextColumn("{task.fields[rate]}"),
            TimeElapsedColumn(),
            TextColumn("{task.fields[left]}"),
            TextColumn("{task.fields[note]}", markup=False),
            console=console,
            auto_refresh=False,  # no thread: the loop redraws, at most ten times a second
        )
        self._bar.start()
        self._task = self._bar.add_task(label, total=total, completed=start, rate="", left="", note="")

    def update(self, step: int, note: str | None = None) -> None:
        """Show that `step` steps are done; `note` is a short text at the right."""
        if self._bar is None:
            return
        now = time.monotonic()
        if note is None and now < self._next:
            return
        self._next = now + REDRAW_SECONDS
        fields: dict[str, Any] = {} if note is None else {"note": note}
        if step > self._start and now > self._began:
            rate = (step - self._start) / (now - self._began)
            fields["rate"] = f"{rate:.3g} steps/s"
            fields["left"] = f"{_clock((self._total - step) / rate)} left"
        self._bar.update(self._task, completed=step, **fields)
        self._bar.refresh()

    def close(self) -> None:
        """Leave the bar as it stands."""
        if self._bar is not None:
            self._bar.refresh()
            self._bar.stop()
            self._bar = None


def _clock(seconds: float) -> str:
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02d}:{rest:02d}" if hours else f"{minutes}:{rest:02d}"
