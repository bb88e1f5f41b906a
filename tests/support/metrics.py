"""What /metrics tells."""

from prometheus_client.parser import text_string_to_metric_families

from tests.support.web import Client


def counted(scrape: Client, name: str, **labels: str) -> float:
    """The sum of what is told under this name, where the labels are these."""
    answer = scrape("GET", "/metrics")
    assert (answer.status, answer.headers["content-type"].partition(";")[0]) == (200, "text/plain")
    return sum(
        sample.value
        for family in text_string_to_metric_families(answer.body.decode())
        for sample in family.samples
        if sample.name == name and labels.items() <= sample.labels.items()
    )
