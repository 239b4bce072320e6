"""The command `headwater`: its verbs, and what happens to everything that they raise.

Modules of verbs import Feast, Bytewax, gRPC and the like inside their functions, so that
`headwater --help` answers at once.
"""

from __future__ import annotations

import sys
import traceback
from collections.abc import Callable, Sequence
from contextvars import ContextVar
from typing import Annotated, Any, NamedTuple

import typer

from cli.apply import apply
from cli.dataset.commands import dataset_app
from cli.demo.command import demo
from cli.drift import drift
from cli.evaluate import evaluate
from cli.evaluation import EXAMPLE as EVALUATION_EXAMPLE
from cli.evaluation import evaluation
from cli.failures import FAILED, USAGE, exit_code, explain
from cli.features import features
from cli.forget import EXAMPLE as FORGET_EXAMPLE
from cli.forget import forget
from cli.model_card import EXAMPLE as CARD_EXAMPLE
from cli.model_card import card
from cli.models import models_app
from cli.plan import plan
from cli.produce import produce
from cli.registry.commands import mlflow_app
from cli.replay import replay
from cli.run import run
from cli.score import score
from cli.serve import serve
from cli.status import status
from cli.train import train
from cli.verify import EXAMPLE as VERIFY_EXAMPLE
from cli.verify import verify

_INTERRUPTED = 130
# A flight, for the examples.
_KEYS = "carrier=UA dest=IAH origin=EWR tailnum=N14228"
_REQUEST = (
    "distance=1400 sched_elapsed_minutes=244 hour_sin=0.98 hour_cos=0.2 day_of_week=1 month=1"
)


class Verb(NamedTuple):
    """A verb: its name, what it calls (the docstring is its help), and an example to show."""

    name: str
    function: Callable[..., Any]
    example: str


VERBS = (
    Verb("apply", apply, "headwater apply --repo feature_repo"),
    Verb("plan", plan, "headwater plan HEAD~1"),
    Verb("run", run, "headwater run --until-end"),
    Verb("evaluate", evaluate, "headwater evaluate --until-end"),
    Verb("serve", serve, "HEADWATER_SCORER_ADDRESS=127.0.0.1:50051 headwater serve"),
    Verb("status", status, "headwater status --json"),
    Verb("produce", produce, "headwater produce flights.arrived arrivals.ndjson"),
    Verb("features", features, f"headwater features late_arrival {_KEYS}"),
    Verb("replay", replay, "headwater replay --views carrier_arrivals --live"),
    Verb("verify", verify, VERIFY_EXAMPLE),
    Verb("forget", forget, FORGET_EXAMPLE),
    Verb("train", train, "headwater train late_arrival --trials 20"),
    Verb("demo", demo, "headwater demo --output build/demo"),
    Verb("score", score, f"headwater score late_arrival {_KEYS} {_REQUEST}"),
)

app = typer.Typer(
    name="headwater",
    help="Runs Feast stream feature views as one dataflow, learns from labels, scores over gRPC.",
    epilog="Settings are environment variables HEADWATER_*; .env.example lists them.",
    invoke_without_command=True,
    # A plain page comes in half the time of a framed one, and can be copied.
    rich_markup_mode=None,
    add_completion=False,
    pretty_exceptions_enable=False,
)
for _verb in VERBS:
    app.command(_verb.name, epilog=f"Example: {_verb.example}")(_verb.function)
models_app.command("evaluation", epilog=EVALUATION_EXAMPLE)(evaluation)
models_app.command("card", epilog=CARD_EXAMPLE)(card)
models_app.command("drift", epilog="Example: headwater models drift late_arrival")(drift)
app.add_typer(models_app, name="models")
app.add_typer(dataset_app, name="dataset")
app.add_typer(mlflow_app, name="mlflow")

_tracebacks: ContextVar[bool] = ContextVar("tracebacks", default=False)


@app.callback()
def _options(
    context: typer.Context,
    debug: Annotated[
        bool, typer.Option("--debug", help="Show the traceback of an error; goes before the verb.")
    ] = False,
) -> None:
    _tracebacks.set(debug)
    if context.invoked_subcommand is None:
        typer.echo(context.get_help())
        raise typer.Exit(USAGE)


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the command line and exit: 0 done, 1 failed, 2 usage."""
    words = list(sys.argv[1:] if arguments is None else arguments)
    try:
        result = app(words, standalone_mode=False, prog_name="headwater")
    except SystemExit:
        raise
    except BaseException as error:  # noqa: BLE001 - people get one line, of Bytewax's panics too
        if _tracebacks.get():
            traceback.print_exc()
        _say(explain(error))
        sys.exit(exit_code(error))
    if result == _INTERRUPTED:
        _say("interrupted")
        sys.exit(FAILED)
    sys.exit(result if isinstance(result, int) else 0)


def _say(line: str) -> None:
    sys.stderr.write(f"headwater: {line}\n")


if __name__ == "__main__":
    main()
