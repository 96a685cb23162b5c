"""Every route under requests generated from the OpenAPI document."""

from tempfile import TemporaryDirectory

from rich.console import Console

from loadtest.reliability.contract import check_routes
from loadtest.reliability.results import Bound, save
from loadtest.reliability.running import running_service

CASES_PER_ROUTE = 1000


def run(cases_per_route: int = CASES_PER_ROUTE) -> bool:
    """Whether no answer was a 5xx, undocumented, or of another shape than the document says."""
    console = Console()
    with (
        TemporaryDirectory() as directory,
        running_service(
            {"engine": "fake", "log_level": "error", "database_url": f"sqlite:///{directory}/outcomes.db"}
        ) as service,
    ):
        reports = check_routes(service.url, cases_per_route)
        alive = service.alive()
    for report in reports:
        console.print(report.route, report.cases, dict(sorted(report.statuses.items())))
        for name, text in report.failures.items():
            console.print(f"{name}: {text}", style="red", markup=False)
    server_errors = sum(n for one in reports for status, n in one.statuses.items() if status >= 500)
    return save(
        "schemathesis",
        f"schemathesis against the running service with the fake engine and an outcome store: {len(reports)} routes, "
        "half of the requests as the OpenAPI document says, half against it.",
        [
            Bound(
                "requests of the route with fewest",
                min(one.cases for one in reports),
                at_least=cases_per_route,
            ),
            Bound("answers of 500 and above", server_errors, at_most=0),
            Bound(
                "kinds of answers that the document does not promise",
                sum(len(one.failures) for one in reports),
                at_most=0,
            ),
            Bound("the service is alive", int(alive), at_least=1),
        ],
        {
            one.route: ", ".join(f"{status}: {n}" for status, n in sorted(one.statuses.items()))
            for one in reports
        },
    )
