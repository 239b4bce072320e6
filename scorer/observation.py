"""What goes on around calls so that people can see them: log lines, traces, the loop's lag."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager

from contracts.scorer_settings import ScorerSettings
from scorer.calls import Witness
from scorer.metrics import ScorerMetrics
from scorer.process_metrics import LoopLag
from scorer.request_log import RequestLog
from scorer.traces import open_traces

# For what the log and the traces have not told yet when all else is done.
_LAST_WORDS_SECONDS = 1.0


class Observation:
    """The witnesses of one server.

    Attributes:
        witnesses: for ``Calls``.
    """

    def __init__(self, settings: ScorerSettings, metrics: ScorerMetrics) -> None:
        """Set up what the settings ask for; raises ConfigurationError as ``open_traces``."""
        self._traces = open_traces(settings, metrics.spans_dropped)
        self._requests = RequestLog(settings.request_log_share, metrics.log_line_left_out)
        self._lag = LoopLag(metrics.loop_lag_seconds.observe)
        self.witnesses: tuple[Witness, ...] = (self._requests,)
        if self._traces is not None:
            self.witnesses += (self._traces,)

    @asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        """Observe in the running loop as long as the context, then tell what is left."""
        async with AsyncExitStack() as stack:
            if self._traces is not None:
                stack.push_async_callback(self._traces.stop, _LAST_WORDS_SECONDS)
            self._requests.start()
            stack.push_async_callback(self._requests.stop, _LAST_WORDS_SECONDS)
            self._lag.start()
            stack.callback(self._lag.stop)
            yield
