"""What a challenger and a shadow cost the callers of the champion, and the machine."""

from __future__ import annotations

import time
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path
from urllib.request import urlopen

from prometheus_client.parser import text_string_to_metric_families

from benchmarks._scorer_world import JOIN_KEYS, MODEL
from benchmarks.scorer.parts import Bench
from benchmarks.scorer.rounds import Figures, Part, in_turns, ratio
from benchmarks.scorer.servers import Server, scorer
from contracts import metric_names
from contracts.manifest import Manifest, sha256_hex
from contracts.model_repository import ModelRepository
from tests.services.server import free_ports

_CHAMPION, _OTHER = "11", "12"
_IN_FLIGHT = 8
_ROWS = 100
_SETTLE_SECONDS_MAX = 30.0


def rollouts(bench: Bench) -> Part:
    """The champion alone, half of the rows with a challenger, and all with a shadow beside."""
    part = Part()
    kinds = ("alone", "challenger with half", "shadow beside")
    with ExitStack() as stack:
        servers: dict[str, Server] = {}
        pages: dict[str, str] = {}
        for number, kind in enumerate(kinds):
            root = bench.folder / f"models-{number}"
            _repository(bench, root, kind)
            (port,) = free_ports(1)
            pages[kind] = f"http://127.0.0.1:{port}/metrics"
            settings = {
                "MODEL_REPOSITORY": str(root),
                "METRICS_ADDRESS": f"127.0.0.1:{port}",
                "PREDICTION_TOPIC": f"predictions-{number}",
            }
            servers[kind] = stack.enter_context(scorer(bench.world.folder, settings))
        load = bench.load(_IN_FLIGHT)
        for rows in (1, _ROWS):
            targets = {kind: bench.target(server, rows) for kind, server in servers.items()}
            found = in_turns(bench.client, targets, [load] * bench.rounds)
            lines = {
                kind: part.add(kind, load, them, rows, note=f"{rows} rows")
                for kind, them in found.items()
            }
            for kind in kinds[1:]:
                for figure in ("p50_ms", "p99_ms", "requests_per_second", "server_cpu_us"):
                    ratio(part, lines[kind], lines[kinds[0]], figure)
        part.more["rows"] = {kind: _rows(page) for kind, page in pages.items()}
    return part


def _repository(bench: Bench, root: Path, kind: str) -> None:
    """A repository with the two models, the second of them beside the first in that way."""
    repository = ModelRepository(root)
    manifest, _ = ModelRepository(bench.world.folder / "data" / "models").load(MODEL, "1")
    for version in (_CHAMPION, _OTHER):
        onnx = bench.world.onnx[int(version) % len(bench.world.onnx)]
        repository.publish(_version(manifest, version, onnx), onnx)
    repository.promote(MODEL, _CHAMPION, "benchmark", "benchmark", 0)
    if kind.startswith("challenger"):
        repository.set_challenger(MODEL, _OTHER, 0.5, "salt", "benchmark", "benchmark", 0)
    elif kind.startswith("shadow"):
        repository.set_channel(MODEL, "shadow", _OTHER, "benchmark", "benchmark", 0)


def _version(manifest: Manifest, version: str, onnx: bytes) -> Manifest:
    return replace(
        manifest, version=version, sha256=sha256_hex(onnx), assign_by=next(iter(JOIN_KEYS))
    )


def _rows(page: str) -> Figures:
    """What the scorer counted, when it has worked off what waited: no row may be missing."""
    end = time.monotonic() + _SETTLE_SECONDS_MAX
    while True:
        found = _counted(page)
        answered = found.get("answered", 0.0)
        beside = found.get("scored beside", 0.0) + found.get("dropped", 0.0)
        if beside in (0.0, answered) or time.monotonic() > end:
            assert beside in (0.0, answered), f"{beside:.0f} rows beside {answered:.0f} answers"
            return found
        time.sleep(0.1)


def _counted(page: str) -> Figures:
    names = {
        metric_names.ROWS: "answered",
        metric_names.SHADOW_ROWS: "scored beside",
        metric_names.SHADOW_ROWS_DROPPED: "dropped",
    }
    with urlopen(page, timeout=10) as shown:
        families = list(text_string_to_metric_families(str(shown.read(), "utf-8")))
    found: Figures = {}
    for sample in (sample for family in families for sample in family.samples):
        if sample.name in names:
            name = names[sample.name]
            found[name] = found.get(name, 0.0) + sample.value
    return found
