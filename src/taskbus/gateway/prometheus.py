"""Prometheus' text format. A client library keeps counters of its own process; what is told here is
counted elsewhere, and writing it down takes a page.
"""

from collections.abc import Iterable, Mapping
from itertools import accumulate
from typing import NamedTuple

from taskbus.core.tally import BOUNDS, Seconds

CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"
GAUGE, COUNTER, HISTOGRAM = "gauge", "counter", "histogram"

Labels = Mapping[str, str]


class Sample(NamedTuple):
    """One line; ``suffix`` is what follows the family's name."""

    labels: Labels
    value: float
    suffix: str = ""


class Family(NamedTuple):
    """All lines of one name."""

    name: str
    kind: str
    help: str
    samples: Iterable[Sample]


def histogram(labels: Labels, seconds: Seconds) -> list[Sample]:
    """The lines of one histogram."""
    bounds = [*(f"{bound:g}" for bound in BOUNDS), "+Inf"]
    counts = list(accumulate(seconds.counts))
    lines = [
        Sample({**labels, "le": bound}, count, "_bucket")
        for bound, count in zip(bounds, counts, strict=True)
    ]
    return [*lines, Sample(labels, seconds.total, "_sum"), Sample(labels, counts[-1], "_count")]


def exposition(families: Iterable[Family]) -> bytes:
    """The whole answer."""
    lines = []
    for family in families:
        told = family.help.replace("\\", r"\\").replace("\n", r"\n")
        lines.append(f"# HELP {family.name} {told}\n# TYPE {family.name} {family.kind}\n")
        lines += [_line(family.name, sample) for sample in family.samples]
    return "".join(lines).encode()


def _line(name: str, sample: Sample) -> str:
    pairs = ",".join(f'{label}="{_escaped(text)}"' for label, text in sample.labels.items())
    labels = f"{{{pairs}}}" if pairs else ""
    return f"{name}{sample.suffix}{labels} {sample.value!r}\n"


def _escaped(text: str) -> str:
    return text.replace("\\", r"\\").replace('"', r"\"").replace("\n", r"\n")
