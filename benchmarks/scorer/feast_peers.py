"""Beside what Feast offers: a scorer written with its SDK, and its own feature server."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import replace

from benchmarks._scorer_world import JOIN_KEYS, World, entity_value, feature_refs
from benchmarks.scorer.checks import FeaturesOf
from benchmarks.scorer.load import Target
from benchmarks.scorer.parts import LEVELS, Bench
from benchmarks.scorer.rounds import Figures, Part, in_turns, ratio
from benchmarks.scorer.servers import feast_serve, running, scorer

_SDK = ("async", "threads")
_APPLY_SECONDS_MAX = 120.0


def feast_sdk(bench: Bench) -> Part:
    """The scorers that one would write with the SDK; the best of them counts."""
    part = Part()
    _apply(bench)
    model = bench.folder / "model.onnx"
    model.write_bytes(bench.world.onnx[1])
    with ExitStack() as stack:
        ours = bench.target(stack.enter_context(scorer(bench.world.folder, {})))
        targets = {"scorer": ours}
        for how in _SDK:
            arguments = [
                "-m",
                "benchmarks.scorer.feast_sdk",
                str(bench.world.folder),
                str(model),
                how,
            ]
            log = bench.folder / f"feast_{how}.log"
            server = stack.enter_context(running(arguments, log, {}))
            targets[f"Feast SDK, {how}"] = replace(ours, address=server.address, pids=(server.pid,))
        for level in LEVELS:
            ours_line, *others = _level(bench, part, targets, level)
            best = max(others, key=lambda line: float(line["requests_per_second"]))
            faster = ratio(part, ours_line, best, "requests_per_second")
            if level > 1:
                part.reach(
                    f"rate at {level} in flight, of the best SDK scorer's", faster, "high", 4
                )
    late = ours_line["p99_ms"] / best["p50_ms"]
    part.reach(f"our p99 at {LEVELS[-1]} in flight, of the SDK scorer's p50", late, "low", 1)
    return part


def feast_server(bench: Bench) -> Part:
    """Feast's feature server, which only reads the features."""
    part = Part()
    _apply(bench)
    with ExitStack() as stack:
        ours = bench.target(stack.enter_context(scorer(bench.world.folder, {})))
        log = bench.folder / "feast_serve.log"
        server = stack.enter_context(feast_serve(bench.world.folder, log))
        theirs = Target(
            server.address,
            "http",
            "/get-online-features",
            tuple(_asked(bench.world)),
            FeaturesOf(tuple(ref.replace(":", "__") for ref in feature_refs()), bench.world.stored),
            (server.pid,),
        )
        for level in LEVELS:
            score, features = _level(bench, part, {"scorer": ours, "feast serve": theirs}, level)
            faster = ratio(part, score, features, "requests_per_second")
            if level > 1:
                part.reach(f"rate at {level} in flight, of feast serve's", faster, "high", 15)
    return part


def _level(bench: Bench, part: Part, targets: dict[str, Target], level: int) -> Sequence[Figures]:
    load = bench.load(level)
    found = in_turns(bench.client, targets, [load] * bench.rounds)
    return [part.add(name, load, rounds) for name, rounds in found.items()]


def _apply(bench: Bench) -> None:
    """Once for all parts."""
    if (bench.world.folder / "data" / "registry.db").exists():
        return
    subprocess.run(
        [sys.executable, "-m", "benchmarks.scorer.feast_repo", str(bench.world.folder)],
        check=True,
        timeout=_APPLY_SECONDS_MAX,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
    )


def _asked(world: World) -> list[bytes]:
    """The requests as Feast's server wants them: the same entities in the same order."""
    return [
        json.dumps(
            {
                "features": feature_refs(),
                "entities": {
                    name: [entity_value(kind, number)]
                    for (name, kind), number in zip(JOIN_KEYS.items(), numbers, strict=True)
                },
                "full_feature_names": True,
            }
        ).encode()
        for numbers in world.entities.tolist()
    ]
