"""The processes of `torchrun -m rnnscope sweep`: they draw numbers from one counter and hand what they make to rank 0.

Each draws one number at a time, since one configuration may cost a thousand times as much as another. All goes through
the store of torch.distributed, which torchrun keeps alive. What is drawn and handed over is not known here.
Source: https://docs.pytorch.org/docs/stable/elastic/run.html
"""

import os
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from datetime import timedelta
from itertools import count

_SWEEPS = count()

HEAD_START = 3.0
"""Seconds that rank 0 has to say what every rank finds wrong."""


def is_launched() -> bool:
    """Whether torchrun started this process."""
    return "TORCHELASTIC_RUN_ID" in os.environ


def is_follower() -> bool:
    """Whether torchrun started this process, and not as rank 0, which alone prints and writes."""
    return is_launched() and os.environ.get("RANK", "0") != "0"


def let_rank_0_speak() -> None:
    """Wait before this process fails too: torchrun ends all when one fails, and rank 0 might not have spoken."""
    time.sleep(HEAD_START)


def workers_here() -> int:
    """How many processes share this machine and its memory."""
    return int(os.environ.get("LOCAL_WORLD_SIZE", "1")) if is_launched() else 1


class Ranks:
    """This process among those that torchrun started. Each takes an accelerator of its own where there are several."""

    def __init__(self) -> None:
        from torch.distributed import PrefixStore, rendezvous  # type: ignore[attr-defined]

        from rnnscope.subjects.devices import take_device

        store, self.rank, self.size = next(iter(rendezvous("env://")))
        store.set_timeout(timedelta(days=7))  # torchrun ends all ranks when one is gone
        # Keys of its own for each sweep of a process, and where torchrun starts all anew after a crash.
        attempt = os.environ.get("TORCHELASTIC_RESTART_COUNT", "0")
        self._store = PrefixStore(f"rnnscope/{attempt}/{next(_SWEEPS)}", store)
        self._drawn = 0
        take_device(int(os.environ.get("LOCAL_RANK", "0")))

    def send(self, name: str, text: str) -> None:
        """Give the other ranks a text."""
        self._store.set(name, text)

    def receive(self, name: str) -> str:
        """A text that rank 0 sends, as soon as it does."""
        return str(self._store.get(name).decode())

    def draw(self, todo: list[int]) -> Iterator[int]:
        """The numbers that this rank draws; each is drawn by one rank."""
        while (place := self._store.add("drawn", 1) - 1) < len(todo):
            self._drawn += 1
            yield todo[place]

    def hand_over(self, piece: str) -> None:
        """Give rank 0 what was made of a number that was drawn."""
        self._store.set(f"piece {self._store.add('pieces', 1)}", piece)

    @contextmanager
    def taking(self, many: int, take: Callable[[bytes], object]) -> Iterator[Future[None]]:
        """At rank 0, take each piece that the others hand over, in a thread, until there are `many` in all.

        Gives the work of the thread, which is done early where `take` raises an error. That error is raised at the end.
        """
        stop = threading.Event()

        def take_all() -> None:
            number = 1
            while number + self._drawn <= many and not stop.is_set():
                while self._store.check([key := f"piece {number}"]):
                    take(self._store.get(key))
                    self._store.delete_key(key)
                    number += 1
                time.sleep(0.02)

        with ThreadPoolExecutor(1) as thread:
            taken = thread.submit(take_all)
            try:
                yield taken
                taken.result()
            finally:
                stop.set()
