"""Providers and kept graphs: what is refused, what is used again, and that damage never scores."""

from __future__ import annotations

import asyncio
import os
from pathlib import Path

import numpy as np
import onnxruntime
import pytest
from structlog.testing import capture_logs

from contracts.manifest import sha256_hex
from scorer.client import ScoreOptions
from scorer.errors import ConfigurationError
from scorer.graph_cache import GraphCache, KeptGraph
from scorer.model import LoadedModel, UnusableModelError
from scorer.onnx_runtime import CPU, Runtime, open_runtime
from tests.scorer.graphs import graph, node, product_of_pairs
from tests.scorer.shop import (
    MODEL,
    NOON_US,
    ROW,
    SCHEMA,
    VECTOR,
    WEIGHTS,
    Shop,
    bias_of,
    linear_onnx,
    linear_score,
    manifest_for,
)

ROWS = np.random.default_rng(1).normal(size=(50, len(SCHEMA.fields)))


def load(data: bytes, runtime: Runtime) -> LoadedModel:
    """A version with these bytes."""
    return LoadedModel(manifest_for("1", data), data, runtime)


def kept_files(folder: Path) -> list[Path]:
    """All that is in the folder."""
    return sorted(folder.iterdir())


def cached(folder: Path) -> Runtime:
    """A runtime of a process that has just started."""
    return open_runtime(CPU, 1, str(folder))


def test_providers_that_are_not_installed_are_refused() -> None:
    """The text names the provider, the setting, and what there is instead."""
    with pytest.raises(ConfigurationError) as refused:
        open_runtime("MadeUpExecutionProvider,CPUExecutionProvider", 1, "")
    assert "HEADWATER_ONNX_PROVIDERS names MadeUpExecutionProvider" in str(refused.value)
    for name in onnxruntime.get_available_providers():
        assert name in str(refused.value)
    with pytest.raises(ConfigurationError, match="twice"):
        open_runtime(f"{CPU},{CPU}", 1, "")


def test_a_scorer_with_such_a_provider_does_not_start(scorer_shop: Shop) -> None:
    """The setting is checked before anything listens."""

    async def run() -> None:
        with pytest.raises(ConfigurationError, match="TensorrtExecutionProvider"):
            async with scorer_shop.client(onnx_providers="TensorrtExecutionProvider"):
                pass

    asyncio.run(run())


def test_a_provider_that_fails_is_passed_over_once_in_the_log() -> None:
    """The next one takes its place, in the order given; the reason is logged for the first load."""
    runtime, data = Runtime(("BrokenExecutionProvider", CPU)), product_of_pairs(len(SCHEMA.fields))
    with capture_logs() as logs, pytest.warns(UserWarning, match="BrokenExecutionProvider"):
        models = [load(data, runtime) for _ in range(2)]
    skipped = [line["provider"] for line in logs if line["event"] == "onnx_provider_skipped"]
    assert skipped == ["BrokenExecutionProvider"]
    plain = load(data, Runtime()).run(ROWS)
    for model in models:
        np.testing.assert_array_equal(model.run(ROWS), plain)


def test_threads_change_no_score() -> None:
    """A model run by two threads gives the same scores."""
    data = product_of_pairs(len(SCHEMA.fields))
    one, two = load(data, open_runtime(CPU, 1, "")), load(data, open_runtime(CPU, 2, ""))
    np.testing.assert_array_equal(one.run(ROWS), two.run(ROWS))


def test_a_kept_graph_is_used_and_scores_the_same(tmp_path: Path) -> None:
    """The second load takes the graph of the first, and leaves it as it is."""
    data = product_of_pairs(len(SCHEMA.fields))
    first = load(data, cached(tmp_path))
    (file,) = kept_files(tmp_path)
    before = file.read_bytes()
    os.utime(file, (0, 0))
    with capture_logs() as logs:
        second = load(data, cached(tmp_path))
    assert logs == []
    assert kept_files(tmp_path) == [file]
    assert file.read_bytes() == before
    # Used just now, so it is not among the first to go.
    assert file.stat().st_mtime > 0
    plain = load(data, Runtime()).run(ROWS)
    np.testing.assert_array_equal(first.run(ROWS), plain)
    np.testing.assert_array_equal(second.run(ROWS), plain)


def kept_name(data: bytes, cache: GraphCache) -> str:
    """What the graph of that model is kept under."""
    return cache.name(sha256_hex(data), (onnxruntime.__version__, "1", CPU))


def test_a_graph_that_scores_otherwise_is_made_anew(tmp_path: Path) -> None:
    """Another model's graph in the place of ours, whole and loadable, never scores a row."""
    data, other = linear_onnx(WEIGHTS, 0.1), linear_onnx(WEIGHTS, 0.2)
    load(data, cached(tmp_path))
    cache = GraphCache(tmp_path)
    kept = cache.get(kept_name(data, cache))
    assert kept is not None
    cache.put(kept_name(data, cache), KeptGraph(other, kept.scores))
    with capture_logs() as logs:
        model = load(data, cached(tmp_path))
    assert [line["reason"] for line in logs] == ["gives other scores than when it was made"]
    np.testing.assert_array_equal(model.run(ROWS), load(data, Runtime()).run(ROWS))
    assert cache.get(kept_name(data, cache)) == kept


@pytest.mark.parametrize("damage", ["flipped", "short", "empty", "text", "deep"])
def test_damaged_graphs_are_made_anew(tmp_path: Path, damage: str) -> None:
    """Whatever a disk makes of a file, the version loads and scores as before."""
    data = linear_onnx(WEIGHTS, 0.1)
    load(data, cached(tmp_path))
    (file,) = kept_files(tmp_path)
    whole = file.read_bytes()
    flipped = whole[:-1] + bytes([whole[-1] ^ 1])
    file.write_bytes(
        {
            "flipped": flipped,
            "short": whole[:-9],
            "empty": b"",
            "text": b"[]\nx",
            "deep": b"[" * 100_000,
        }[damage]
    )
    with capture_logs() as logs:
        model = load(data, cached(tmp_path))
    (line,) = logs
    assert line["event"] == "onnx_graph_dropped"
    # What does not have its SHA-256 is not even given to ONNX Runtime.
    assert line["reason"].startswith(("is damaged", "cannot be read"))
    np.testing.assert_array_equal(model.run(ROWS), load(data, Runtime()).run(ROWS))
    assert file.read_bytes() == whole


def test_the_number_of_kept_graphs_is_bounded(tmp_path: Path) -> None:
    """What was used longest ago goes first; drafts that someone left long ago go too."""
    cache = GraphCache(tmp_path, files_max=3)
    old, new = cache.draft(), cache.draft()
    os.utime(old, (1, 1))
    for number in range(5):
        cache.put(f"g{number}", KeptGraph(b"graph", ("0x0p+0",)))
        for place, name in enumerate(("g1", "g4", "g3", "g2", "g0")):
            if (tmp_path / f"{name}.graph").exists():
                os.utime(tmp_path / f"{name}.graph", (1_000 - place, 1_000 - place))
    assert {file.name for file in kept_files(tmp_path)} == {
        new.name,
        "g1.graph",
        "g3.graph",
        "g4.graph",
    }


def test_models_that_cannot_be_served_are_refused_as_without_a_cache(tmp_path: Path) -> None:
    """The reason is the model's, and nothing is kept of what is no model."""
    with pytest.raises(UnusableModelError, match="ONNX Runtime refuses it"):
        load(b"no model", cached(tmp_path))
    assert kept_files(tmp_path) == []
    narrow = graph(2, [node("ReduceSum", "features axis", "score")], {"axis": np.array([1])})
    with pytest.raises(UnusableModelError, match="its input is"):
        load(narrow, cached(tmp_path))


def test_a_folder_that_cannot_be_written_is_refused_at_the_start(tmp_path: Path) -> None:
    """A file where the folder should be is named with the setting."""
    file = tmp_path / "file"
    file.write_bytes(b"")
    with pytest.raises(ConfigurationError, match="HEADWATER_ONNX_CACHE_DIR"):
        open_runtime(CPU, 1, str(file / "graphs"))


def test_a_scorer_keeps_and_uses_graphs(scorer_shop: Shop, tmp_path: Path) -> None:
    """With the setting, a scorer's second start finds the graph of its first."""
    folder = tmp_path / "graphs"

    async def score() -> float:
        async with scorer_shop.client(onnx_cache_dir=str(folder)) as client:
            answer = await client.score(MODEL, [ROW], ScoreOptions(event_time_us=NOON_US))
            return answer.scores[0]

    scores = [asyncio.run(score()) for _ in range(2)]
    assert scores[0] == scores[1]
    assert scores[0] == pytest.approx(linear_score(VECTOR, bias_of("1")), abs=1e-15)
    assert len(kept_files(folder)) == 1
