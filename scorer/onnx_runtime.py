"""How ONNX Runtime runs models here: providers, threads, and graphs that are optimised already."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import onnxruntime
import structlog

from scorer.errors import ConfigurationError
from scorer.graph_cache import GraphCache, KeptGraph

Matrix = npt.NDArray[np.float64]
CPU = "CPUExecutionProvider"
_log = structlog.get_logger()


class Runtime:
    """Makes sessions. Safe for several threads at once."""

    def __init__(
        self, providers: Sequence[str] = (CPU,), threads: int = 1, cache: GraphCache | None = None
    ) -> None:
        """Take the settings as they are; ``open_runtime`` checks them.

        Args:
            providers: execution providers, the best first. ONNX Runtime gives each part of a graph
                to the first that can run it, and to the CPU what none can.
            threads: threads that run one model.
            cache: where optimised graphs are kept; None to optimise at each load.
        """
        self._providers = tuple(providers)
        self._threads = threads
        self._cache = cache
        self._skipped: set[str] = set()

    def session(self, onnx: bytes, sha256: str, probe: Matrix) -> Any:
        """A session for a model, from a kept graph if there is one that holds.

        Args:
            onnx: the model.
            sha256: of these bytes, hex.
            probe: rows whose scores tell whether a kept graph is still what it was.

        Raises:
            Exception: of a type of ONNX Runtime's own: it refuses the model.
        """
        if self._cache is None:
            return self._made(onnx, self._options())
        runtime = (onnxruntime.__version__, str(self._threads), *self._providers)
        name = self._cache.name(sha256, runtime)
        kept = self._cache.get(name)
        if kept is not None:
            session = self._kept(kept, name, probe)
            if session is not None:
                return session
        return self._keep(onnx, name, probe)

    def _kept(self, kept: KeptGraph, name: str, probe: Matrix) -> Any:
        """A session from a kept graph; None if it does not give what it gave."""
        assert self._cache is not None
        options = self._options()
        options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
        try:
            session = self._made(kept.graph, options)
            scores = _scores(session, probe)
        except Exception as error:  # noqa: BLE001 - ONNX Runtime's have no common base
            self._cache.drop(name, f"ONNX Runtime refuses it: {first_line(error)}")
            return None
        if scores != kept.scores:
            self._cache.drop(name, "gives other scores than when it was made")
            return None
        return session

    def _keep(self, onnx: bytes, name: str, probe: Matrix) -> Any:
        """A session from the model; its optimised graph is kept for the next time."""
        assert self._cache is not None
        try:
            draft = self._cache.draft()
        except OSError as error:
            _log.warning("onnx_graph_not_kept", reason=str(error))
            return self._made(onnx, self._options())
        try:
            options = self._options()
            options.optimized_model_filepath = str(draft)
            try:
                session = self._made(onnx, options)
                self._cache.put(name, KeptGraph(draft.read_bytes(), _scores(session, probe)))
            except Exception as error:  # noqa: BLE001 - ONNX Runtime's have no common base
                # Not every provider can write its graphs. If the model is at fault, this says so.
                session = self._made(onnx, self._options())
                _log.warning("onnx_graph_not_kept", reason=first_line(error))
        finally:
            draft.unlink(missing_ok=True)
        return session

    def _made(self, onnx: bytes, options: onnxruntime.SessionOptions) -> Any:
        """A session with the first provider that works, and those behind it."""
        for first, provider in enumerate(self._providers):
            rest = list(self._providers[first:])
            try:
                # ONNX Runtime's own way to fall back prints, and knows only one order.
                session = onnxruntime.InferenceSession(
                    onnx, options, providers=rest, enable_fallback=0
                )
            except Exception as error:
                if len(rest) == 1:
                    raise
                self._skip(provider, first_line(error))
                continue
            for one in set(rest) - set(session.get_providers()):
                self._skip(one, "it did not start")
            return session
        raise AssertionError("there is at least one provider")

    def _skip(self, provider: str, reason: str) -> None:
        # At each load again, it would fill the log.
        if provider not in self._skipped:
            self._skipped.add(provider)
            _log.warning("onnx_provider_skipped", provider=provider, reason=reason)

    def _options(self) -> onnxruntime.SessionOptions:
        options = onnxruntime.SessionOptions()
        # With few rows, handing parts of a run to other threads costs more than it saves.
        options.intra_op_num_threads = self._threads
        options.inter_op_num_threads = 1
        # Errors come as exceptions; the library's own lines on stderr would only repeat them.
        options.log_severity_level = 4
        return options


def open_runtime(providers: str, threads: int, cache_dir: str) -> Runtime:
    """The runtime as the settings have it.

    Args:
        providers: names of execution providers, with commas between them, the best first.
        threads: threads that run one model.
        cache_dir: folder for optimised graphs; empty for none.

    Raises:
        ConfigurationError: the installed ONNX Runtime does not have a provider, one is named twice,
            or the folder cannot be written.
    """
    names = providers.split(",")
    installed = onnxruntime.get_available_providers()
    for name in names:
        if name not in installed:
            raise ConfigurationError(
                f"HEADWATER_ONNX_PROVIDERS names {name}, which the installed ONNX Runtime does not"
                f" have; it has: {', '.join(installed)}"
            )
        if names.count(name) > 1:
            raise ConfigurationError(f"HEADWATER_ONNX_PROVIDERS names {name} twice")
    try:
        cache = GraphCache(Path(cache_dir)) if cache_dir else None
    except OSError as error:
        raise ConfigurationError(
            f"HEADWATER_ONNX_CACHE_DIR: cannot write to {cache_dir}: {error.strerror}"
        ) from error
    return Runtime(names, threads, cache)


def _scores(session: Any, probe: Matrix) -> tuple[str, ...]:
    """All that the session gives for the rows, to the last bit."""
    outputs = session.run(None, {session.get_inputs()[0].name: probe})
    numbers = np.concatenate([np.asarray(one, dtype=np.float64).reshape(-1) for one in outputs])
    return tuple(float(number).hex() for number in numbers)


def first_line(error: Exception) -> str:
    """What ONNX Runtime says, in one line."""
    return str(error).strip().split("\n", 1)[0][:300]
