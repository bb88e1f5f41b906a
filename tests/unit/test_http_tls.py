"""HTTP targets that prove who they are."""

import threading
from pathlib import Path

import pytest

from taskbus.handler import build
from taskbus.handler.http import check_target
from taskbus.model.errors import (
    ConfigError,
    HandlerUnreachable,
)
from taskbus.model.http_target import HttpTarget
from taskbus.model.leash import Leash
from tests.support.certificate import Certificate, make_certificate
from tests.support.http_calls import CALL, connections, ended, fine, handler
from tests.support.http_server import Request, serving
from tests.support.processes import PATIENCE


@pytest.fixture(scope="module")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> Certificate:
    return make_certificate(tmp_path_factory.mktemp("tls"))


def test_an_unknown_certificate_is_refused_and_nothing_sent(certificate: Certificate) -> None:
    refused = pytest.raises(HandlerUnreachable, match="CERTIFICATE_VERIFY_FAILED")
    with serving(fine, certificate.server) as (url, requests), refused:
        handler(url)(CALL)
    assert requests == []


@pytest.mark.parametrize("timeout", [None, PATIENCE])
def test_a_ca_of_ones_own(timeout: float | None, certificate: Certificate) -> None:
    with serving(fine, certificate.server) as (url, requests):
        run = handler(url, timeout, ca=str(certificate.file))
        assert [run(CALL).args for _ in range(2)] == [[1], [1]]
    assert connections(requests) == (1 if timeout else 2)


def test_a_certificate_of_another_host(certificate: Certificate) -> None:
    refused = pytest.raises(HandlerUnreachable, match="Hostname mismatch")
    with serving(fine, certificate.server) as (url, _), refused:
        handler(url.replace("127.0.0.1", "localhost"), ca=str(certificate.file))(CALL)


def test_no_verification(certificate: Certificate) -> None:
    with serving(fine, certificate.server) as (url, _):
        assert handler(url, verify=False)(CALL).args == [1]


def test_a_ca_that_is_none_fails_its_own_calls_only(tmp_path: Path) -> None:
    (tmp_path / "ca.pem").write_text("nonsense")
    for name in ("ca.pem", "nothing.pem"):
        target = HttpTarget("https://h/", ca=str(tmp_path / name))
        run = build({"kind": "http", "target": target}, None)
        for attempt in (lambda run=run: run(CALL), lambda target=target: check_target(target)):
            with pytest.raises(ConfigError, match=f"{name}: not a file of CA certificates"):
                attempt()


@pytest.mark.parametrize("timeout", [None, PATIENCE])
def test_tls_is_ended_too(timeout: float | None, certificate: Certificate) -> None:
    asked, over = threading.Event(), threading.Event()

    def answer(_: Request) -> None:
        asked.set()
        over.wait(PATIENCE)

    with serving(answer, certificate.server) as (url, _):
        leash = Leash()
        error = ended(handler(url, timeout, ca=str(certificate.file)), leash)
        assert asked.wait(PATIENCE)
        assert leash.pull(True)
        assert error() == HandlerUnreachable.uri
        over.set()
