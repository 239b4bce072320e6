"""What docs/scorer/security.md says to type works."""

from __future__ import annotations

import asyncio
import re
import shutil
import subprocess
import sys
from ipaddress import ip_address
from pathlib import Path

import grpc
import pytest
from cryptography import x509

from scorer.server import running
from tests.scorer.secured import SECONDS_MAX, score
from tests.scorer.shop import Shop

PAGE = Path(__file__).resolve().parents[2] / "docs" / "scorer" / "security.md"


@pytest.mark.skipif(shutil.which("openssl") is None, reason="the page makes keys with openssl")
def test_keys_made_as_the_page_says_open_the_scorer(scorer_shop: Shop, tmp_path: Path) -> None:
    """The page's commands make a certificate, keys and a token with which a caller gets in."""
    blocks = re.findall(r"```(sh|python)\n(.*?)```", PAGE.read_text(encoding="utf-8"), re.DOTALL)
    make, sign, start = (text for _, text in blocks)
    sign = sign.replace('"late_arrival"', '"fraud"')
    for command in (["bash", "-euc", make], [sys.executable, "-c", sign]):
        subprocess.run(command, cwd=tmp_path, check=True, capture_output=True, timeout=SECONDS_MAX)
    settings = {
        name.lower(): str(tmp_path / value) if value.endswith((".pem", ".key", ".json")) else value
        for name, value in re.findall(r"HEADWATER_(\w+)=(\S+)", start)
    }
    assert settings.keys() == {
        "tls_cert_file",
        "tls_key_file",
        "jwks_file",
        "jwt_issuer",
        "jwt_audience",
    }
    server = x509.load_pem_x509_certificate((tmp_path / "server.pem").read_bytes())
    names = server.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    assert ip_address("127.0.0.1") in names.get_values_for_type(x509.IPAddress)
    trusted = grpc.ssl_channel_credentials((tmp_path / "ca.pem").read_bytes())
    header = "Bearer " + (tmp_path / "token.txt").read_text()

    async def run() -> None:
        async with running(scorer_shop.settings(**settings), scorer_shop.folder) as address:
            assert await score(address, trusted, header) is grpc.StatusCode.OK
            assert await score(address, trusted) is grpc.StatusCode.UNAUTHENTICATED

    asyncio.run(run())
