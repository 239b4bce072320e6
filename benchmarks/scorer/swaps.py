"""New versions while the scorer works: does a swap show in the latency?"""

from __future__ import annotations

import time

import numpy as np

from benchmarks.scorer.cpu import own_cpu_seconds
from benchmarks.scorer.load import Load, Round
from benchmarks.scorer.parts import Bench
from benchmarks.scorer.rounds import Part, ratio
from benchmarks.scorer.servers import scorer

EVERY_SECONDS = 2.0
_PHASE_SECONDS = 10.0
_IN_FLIGHT = 8


def swaps(bench: Bench) -> Part:
    """Phases with a swap every two seconds and phases without, in turn.

    Odd and even versions are different models, and every answer has to be that of the version
    that it names.
    """
    part = Part()
    pairs = max(1, round(bench.swap_seconds / _PHASE_SECONDS / 2))
    load = Load(_IN_FLIGHT, min(_PHASE_SECONDS, bench.swap_seconds / 2))
    without: list[Round] = []
    during: list[Round] = []
    publisher = _Publisher(bench)
    with scorer(bench.world.folder, {}) as server:
        target = bench.target(server)
        for number in range(pairs):
            for kind in (without, during) if number % 2 == 0 else (during, without):
                bench.client.start(target, load)
                if kind is during:
                    publisher.work(load.warm_up_seconds + load.seconds)
                kind.append(bench.client.result())
    quiet = part.add("scorer", load, without, note="no swaps")
    swapped = part.add("scorer", load, during, note=f"a swap every {EVERY_SECONDS:g} s")
    part.reach(
        "p99 while models are swapped, of without", _p99(during) / _p99(without), "low", 1.15
    )
    ratio(part, swapped, quiet, "p99_ms")
    part.more["swaps"] = publisher.swaps
    part.more["publisher_cpu_ms_per_swap"] = publisher.cpu_seconds / publisher.swaps * 1e3
    return part


class _Publisher:
    """Publishes versions of the benchmark's two models in turn."""

    def __init__(self, bench: Bench) -> None:
        self._world = bench.world
        self.swaps = 0
        self.cpu_seconds = 0.0

    def work(self, seconds: float) -> None:
        """Publish one now and then for so long."""
        end = time.monotonic() + seconds
        next_one = time.monotonic() + EVERY_SECONDS / 2
        while next_one < end:
            time.sleep(max(0.0, next_one - time.monotonic()))
            cpu = own_cpu_seconds()
            self.swaps += 1
            self._world.publish(1 + self.swaps)
            self.cpu_seconds += own_cpu_seconds() - cpu
            next_one += EVERY_SECONDS


def _p99(rounds: list[Round]) -> float:
    return float(np.percentile(np.concatenate([one.latency_ms for one in rounds]), 99))
