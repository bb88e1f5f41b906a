"""REST API v1, through the router's port."""

from collections.abc import Iterator

import pytest

from tests.support.quick import quick_folder
from tests.support.site import Site, running_site
from tests.support.web import Client, as_principal, make_key

pytestmark = pytest.mark.acceptance

SPACE = "com.example.dante.get_free_space"


@pytest.fixture(scope="module")
def site() -> Iterator[Site]:
    with quick_folder() as folder, running_site(folder) as site:
        yield site


@pytest.fixture(scope="module")
def ask(site: Site) -> Client:
    with site.joined() as operator:
        return Client(site, f"Bearer {make_key(operator, '*')}")


def test_a_job_is_told(site: Site, ask: Client) -> None:
    with site.joined() as operator:
        job = operator.call("taskbus.job.submit", SPACE, ["/"])
    answer = ask("GET", f"/v1/jobs/{job}")
    assert answer.status == 200
    assert answer.json()["uri"] == SPACE


def test_who_proves_nothing_is_refused(site: Site) -> None:
    for credential in (None, "Bearer x", f"Bearer tb_{'0' * 12}_{'0' * 64}", "Basic b3A6eA=="):
        answer = Client(site, credential)("GET", "/v1/jobs/x")
        assert answer.status == 401
        assert answer.headers["www-authenticate"].startswith("Bearer")
        assert answer.headers["content-type"] == "application/problem+json"
        assert answer.json()["error"] == "taskbus.error.unauthenticated"


def test_an_operator_may_use_its_ticket(site: Site) -> None:
    ask = Client(site, as_principal("operator", site.ticket("operator")))
    assert ask("GET", "/v1/jobs/x").status == 400


def test_no_part_of_the_bus_is_a_client(site: Site) -> None:
    for name in ("control", "backend", "gateway"):
        ask = Client(site, as_principal(name, site.ticket(name)))
        assert ask("GET", "/v1/jobs/x").status == 401
