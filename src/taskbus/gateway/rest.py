"""REST API v1: jobs and calls."""

from typing import Any

from taskbus.gateway.route import Answer, Bus, Request, Route


async def get_job(request: Request, bus: Bus) -> Answer:
    """A job, with its result."""
    job: Any = await bus.call("taskbus.job.get", request.params["id"])
    return Answer(200, job)


def routes() -> list[Route]:
    """All of this file."""
    return [Route("GET", "/v1/jobs/{id}", get_job)]
