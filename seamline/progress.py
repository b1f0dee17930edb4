"""How far long work has come: a bar with the time left where a person watches, else a plain line now and then."""

import sys
import time
from collections.abc import Callable

BAR_FROM = 20  # things that take long enough for a bar
WIDTH = 30
REDRAWN_EVERY = 0.1  # seconds
MINUTE = 60
SAID_EVERY = 10.0  # seconds, where nobody watches


class Progress:
    """Of `total` things.

    Args:
        total: how many there are to do.
        silent: where nobody watches, or where the answers stand on the same terminal, nothing is shown.
        clock: seconds that pass.
    """

    def __init__(self, total: int, *, silent: bool = False, clock: Callable[[], float] = time.monotonic) -> None:
        watched = sys.stderr.isatty()
        self._bar = watched and total >= BAR_FROM and not (silent and sys.stdout.isatty())
        self._plain = not watched and not silent
        self._total, self._clock = total, clock
        self._begun = self._shown = clock()

    def show(self, done: int) -> None:
        """So many are done."""
        now = self._clock()
        if self._bar and (done == self._total or now - self._shown >= REDRAWN_EVERY):
            filled = WIDTH * done // self._total
            bar = "━" * filled + "─" * (WIDTH - filled)
            end = "\n" if done == self._total else ""
            print(f"\r{bar} {self._words(done, now)}\x1b[K", end=end, file=sys.stderr, flush=True)
            self._shown = now
        elif self._plain and done < self._total and now - self._shown >= SAID_EVERY:
            print(self._words(done, now), file=sys.stderr, flush=True)
            self._shown = now

    def say(self, line: str) -> None:
        """A line on standard error, not into the bar."""
        print(f"\r\x1b[K{line}" if self._bar else line, file=sys.stderr, flush=True)

    def _words(self, done: int, now: float) -> str:
        left = (now - self._begun) * (self._total - done) / done if done else 0
        return f"{done:,} of {self._total:,}" + (f", {_span(left)} left" if left else "")


def _span(seconds: float) -> str:
    """A time as a person says it.

    >>> _span(8.2), _span(100), _span(7300)
    ('9 s', '2 min', '2 h 2 min')
    """
    if seconds < MINUTE:
        return f"{int(seconds) + 1} s"
    hours, minutes = divmod(int(seconds / MINUTE) + 1, 60)
    return f"{hours} h {minutes} min" if hours else f"{minutes} min"
