"""The processes of `torchrun -m rnnscope sweep`: they draw numbers from one counter and hand what they make to rank 0.

Work is drawn one by one, since one configuration may cost a thousand times as much as another. All goes through the
store of torch.distributed, which torchrun keeps alive; what is drawn and handed over is not known here.
Source: https://docs.pytorch.org/docs/stable/elastic/run.html
"""

import os
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import timedelta
from itertools import count
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from concurrent.futures import Future

LAUNCHED = "TORCHELASTIC_RUN_ID"
"""The variable by which a process knows that torchrun started it."""

_SWEEPS = count()

PAUSE = 0.02
"""Seconds between two looks for what other ranks have handed over."""

PATIENCE = timedelta(days=7)
"""How long a rank waits for another one: torchrun ends them all when one is gone."""


def is_launched() -> bool:
    """Whether torchrun started this process."""
    return LAUNCHED in os.environ


def is_follower() -> bool:
    """Whether torchrun started this process, and not as rank 0, which alone prints and writes."""
    return is_launched() and os.environ.get("RANK", "0") != "0"


def workers_here() -> int:
    """How many processes share this machine and its memory."""
    return int(os.environ.get("LOCAL_WORLD_SIZE", "1")) if is_launched() else 1


class Ranks:
    """This process among those that torchrun started, of which each takes its own CUDA device where there are some."""

    def __init__(self) -> None:
        import torch
        from torch.distributed import PrefixStore, rendezvous  # type: ignore[attr-defined]

        store, self.rank, self.size = next(iter(rendezvous("env://")))
        store.set_timeout(PATIENCE)
        # Counters of its own for each sweep of a process, and where torchrun starts all anew after a crash.
        attempt = os.environ.get("TORCHELASTIC_RESTART_COUNT", "0")
        self._store = PrefixStore(f"rnnscope/{attempt}/{next(_SWEEPS)}", store)
        if torch.cuda.is_available():
            torch.cuda.set_device(int(os.environ.get("LOCAL_RANK", "0")) % torch.cuda.device_count())

    def shared(self, name: str, make: Callable[[], str]) -> str:
        """A text that rank 0 makes and every rank gets."""
        if self.rank:
            return self.receive(name)
        made = make()
        self.send(name, made)
        return made

    def send(self, name: str, text: str) -> None:
        """Give the other ranks a text."""
        self._store.set(name, text)

    def receive(self, name: str) -> str:
        """A text that rank 0 sends, as soon as it does."""
        return str(self._store.get(name).decode())

    def draw(self, many: int) -> Iterator[int]:
        """The numbers below `many`, each of which one rank draws."""
        while (number := self._store.add("next", 1) - 1) < many:
            yield number

    def hand_over(self, pieces: Iterator[bytes]) -> None:
        """Give rank 0 one piece after the other, and say when there are no more."""
        for number, piece in enumerate(pieces):
            self._store.set(f"{self.rank}/{number}", piece.decode())
        self._store.set(f"{self.rank}/end", "")

    @contextmanager
    def taking(self, take: Callable[[bytes], object]) -> Iterator[Callable[[], None]]:
        """At rank 0: what others hand over is taken at once, in a thread, while what is inside runs; then the rest.

        Gives what raises an error of that thread, to be called now and then.
        """
        from concurrent.futures import ThreadPoolExecutor  # here, since a command line is read without it

        stop = threading.Event()
        with ThreadPoolExecutor(1) as thread:
            taken = thread.submit(self._take_all, take, stop)
            try:
                yield lambda: _raise_its_error(taken)
                taken.result()
            finally:
                stop.set()

    def _take_all(self, take: Callable[[bytes], object], stop: threading.Event) -> None:
        received = dict.fromkeys(range(1, self.size), 0)
        while received and not stop.is_set():
            for rank in tuple(received):
                is_last = self._store.check([f"{rank}/end"])  # asked first, or a piece could come in between
                while self._store.check([key := f"{rank}/{received[rank]}"]):
                    take(self._store.get(key))
                    self._store.delete_key(key)
                    received[rank] += 1
                if is_last:
                    del received[rank]
            time.sleep(PAUSE)


def _raise_its_error(future: "Future[None]") -> None:
    if future.done():
        future.result()
