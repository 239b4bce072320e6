"""What the proto and the pages of docs/scorer/ tell is so."""

from __future__ import annotations

import ast
import builtins
import re
import tomllib
from pathlib import Path

from contracts.scorer_settings import ScorerSettings

ROOT = Path(__file__).resolve().parents[2]
PAGES = ROOT / "docs" / "scorer"


def test_the_proto_tells_the_defaults_of_the_limits(tmp_path: Path) -> None:
    """Limits named in comments of the proto are the settings' defaults."""
    text = (ROOT / "proto" / "scorer" / "v1" / "scorer.proto").read_text(encoding="utf-8")
    told = re.findall(r"(?:(server)'s|its) limit \(by default ([\d,]+)\)", text)
    settings = ScorerSettings.for_repo(tmp_path)
    assert {of: int(limit.replace(",", "")) for of, limit in told} == {
        "server": settings.rows_per_request_max,
        "": settings.stream_in_flight_max,
    }


def test_the_client_alone_gets_what_the_project_asks_for() -> None:
    """What the page installs beside the client has the bounds that the project itself has."""
    told = re.findall(r'"([\w-]+[<>=][^"]*)"', (PAGES / "client.md").read_text(encoding="utf-8"))
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    assert len(told) == 2
    assert set(told) <= set(project["dependencies"])


def test_the_on_demand_view_can_be_copied() -> None:
    """The page's definition imports or defines every name it uses, but for the view it is about."""
    (code,) = re.findall(
        r"```python\n(.*?)```", (PAGES / "on-demand.md").read_text(encoding="utf-8"), re.DOTALL
    )
    nodes = list(ast.walk(ast.parse(code)))
    known = {one.asname or one.name for one in nodes if isinstance(one, ast.alias)}
    known |= {one.name for one in nodes if isinstance(one, ast.FunctionDef)}
    known |= {one.arg for one in nodes if isinstance(one, ast.arg)}
    names = [one for one in nodes if isinstance(one, ast.Name)]
    known |= {one.id for one in names if isinstance(one.ctx, ast.Store)}
    assert {one.id for one in names} - known - set(vars(builtins)) == {"card_payments"}


def test_commands_on_the_pages_name_inputs_of_the_flights() -> None:
    """Pages show `headwater score late_arrival` with inputs that README's command has too."""
    pattern = re.compile(r"headwater score late_arrival (?:.*\\\n)*.*")
    readme = pattern.search((ROOT / "README.md").read_text(encoding="utf-8"))
    assert readme
    known = set(re.findall(r"(\w+)=", readme[0]))
    pages = "\n".join(page.read_text(encoding="utf-8") for page in PAGES.glob("*.md"))
    shown = {name for one in pattern.findall(pages) for name in re.findall(r"(\w+)=", one)}
    assert shown
    assert shown <= known
