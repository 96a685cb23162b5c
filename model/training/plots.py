"""The loss curve of a run."""

import json
from pathlib import Path


def plot_loss(log: Path, image: Path) -> None:
    """Training and validation loss over steps, from log.jsonl."""
    import matplotlib as mpl

    mpl.use("Agg")
    from matplotlib import pyplot as plt

    lines = [json.loads(line) for line in log.read_text().splitlines()]
    figure, axes = plt.subplots(figsize=(7, 4))
    axes.plot([x["step"] for x in lines], [x["loss"] for x in lines], label="training", linewidth=0.8)
    for name in ("text", "history"):
        checked = [(x["step"], x["validation"][name]) for x in lines if (x["validation"] or {}).get(name)]
        if checked:
            axes.plot(*zip(*checked, strict=True), label=f"validation, {name}", marker=".")
    axes.set_xlabel("step")
    axes.set_ylabel("loss per number token (nats)")
    axes.grid(alpha=0.3)
    axes.legend()
    figure.tight_layout()
    figure.savefig(image, dpi=110)
    plt.close(figure)
