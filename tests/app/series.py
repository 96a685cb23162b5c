"""The metric series that dashboards and alerts rely on, and how to read them from a scrape."""

import re

SERIES = {
    "jobcast_requests_total": {"route", "method", "code"},
    "jobcast_predictions_total": {"code"},
    "jobcast_request_duration_seconds_bucket": {"route", "le"},
    "jobcast_stage_duration_seconds_bucket": {"stage", "le"},
    "jobcast_queue_depth": set(),
    "jobcast_batch_size_bucket": {"le"},
    "jobcast_cache_requests_total": {"outcome"},
    "jobcast_shed_total": {"reason"},
    "jobcast_engine_up": set(),
    "jobcast_engine_losses_total": {"reason"},
    "jobcast_key_file_valid": set(),
    "jobcast_model_info": {"name", "version"},
    "jobcast_predicted_value_bucket": {"target", "le"},
    "jobcast_outcomes_total": {"result"},
    "jobcast_coverage_outcomes_total": {"target"},
    "jobcast_coverage_below_total": {"target", "quantile"},
    "jobcast_history_total": {"result"},
    "jobcast_predictions_unrecorded_total": set(),
}
REQUEST_BUCKETS = [
    *("0.001", "0.002", "0.005", "0.01", "0.025", "0.05", "0.1", "0.25", "0.5"),
    *("1.0", "2.5", "5.0", "10.0", "+Inf"),
]


def labels_of(scraped: str) -> dict[str, set[str]]:
    """Series -> its labels, those that a histogram brings along left out."""
    found: dict[str, set[str]] = {}
    for line in scraped.splitlines():
        if not line.startswith("#"):
            matched = re.match(r"(\w+)(?:\{(.*)\})? ", line)
            assert matched, line
            found.setdefault(matched[1], set()).update(re.findall(r'(\w+)="', matched[2] or ""))
    derived = {
        name.replace("_bucket", end) for name in SERIES if "_bucket" in name for end in ("_sum", "_count")
    }
    return {name: labels for name, labels in found.items() if name not in derived}


def value_of(scraped: str, name: str, **labels: str) -> float:
    """The sum of a series' samples that have these labels."""
    total = 0.0
    for line in scraped.splitlines():
        series, _, value = line.rpartition(" ")
        wanted = all(f'{label}="{text}"' in series for label, text in labels.items())
        if series.partition("{")[0] == name and wanted:
            total += float(value)
    return total
