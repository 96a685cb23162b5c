"""Requests as CI systems send them: small workflows, told apart by a number."""

import json

_WORKFLOW = """name: CI {number}
on: [push, pull_request]
env:
  CARGO_TERM_COLOR: always
  RUST_BACKTRACE: "1"
jobs:
  build-{number}:
    runs-on: ubuntu-latest
    timeout-minutes: 30
    steps:
      - uses: actions/checkout@v4
      - uses: actions/setup-python@v5
        with: {{python-version: "3.12", cache: pip}}
      - name: Install
        run: |
          python -m pip install --upgrade pip
          pip install -r requirements-{number}.txt
      - name: Test
        run: pytest -x --numprocesses auto tests/unit tests/integration
{padding}"""
#: Even numbers of `half_new_request` below this are all that there are.
KNOWN = 40
_STEP = "      - run: ./scripts/step.sh --variant {place} --shard {number}\n"


def workflow_request(number: int, *, size: int = 2048, **rest: object) -> bytes:
    """A body of about `size` bytes for a workflow with one job; another number is another job."""
    steps: list[str] = []
    while True:
        config = _WORKFLOW.format(number=number, padding="".join(steps))
        body = json.dumps({"kind": "github-actions", "config": config, **rest}).encode()
        if len(body) >= size:
            return body
        steps.append(_STEP.format(place=len(steps), number=number))


def text_request(number: int, **rest: object) -> bytes:
    """A short script, soon read."""
    config = f"make -j4 target-{number} && ./run.sh --shard {number}"
    return json.dumps({"kind": "text", "config": config, **rest}).encode()


def half_new_request(number: int) -> bytes:
    """Odd numbers are jobs of their own, even ones come again after KNOWN."""
    shown = number if number % 2 else number % KNOWN
    return text_request(shown, targets=["runtime_seconds"], quantiles=[0.5])


def reordered(body: bytes) -> bytes:
    """The same request with its keys in another order."""
    content: dict[str, object] = json.loads(body)
    return json.dumps(dict(reversed(list(content.items())))).encode()
