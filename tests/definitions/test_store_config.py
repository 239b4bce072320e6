"""What feature_store.yaml says, and what of it is refused."""

from __future__ import annotations

from pathlib import Path

import pytest

from dataflows.definitions.errors import DefinitionError
from dataflows.definitions.repository import read_store_config


def test_environment_is_put_in(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Variables stand for their values, as they do for Feast."""
    monkeypatch.setenv("REDIS_ADDRESS", "redis:6379")
    text = "project: p\nonline_store: {type: redis, connection_string: '${REDIS_ADDRESS}'}\n"
    (tmp_path / "feature_store.yaml").write_text(text)
    config = read_store_config(tmp_path)
    assert config.project == "p"
    assert config.online_store == {"type": "redis", "connection_string": "redis:6379"}


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("project: [", "is not YAML"),
        ("provider: local", "names no project"),
        ("project: p\nentity_key_serialization_version: 2", "must be 3"),
        (
            "project: p\nregistry: {path: r.db, enable_online_feature_view_versioning: true}",
            "enable_online_feature_view_versioning",
        ),
    ],
)
def test_what_cannot_be_executed_is_refused(tmp_path: Path, text: str, reason: str) -> None:
    """A file that would lead to other bytes than ours is refused by name."""
    (tmp_path / "feature_store.yaml").write_text(text)
    with pytest.raises(DefinitionError, match=reason):
        read_store_config(tmp_path)
