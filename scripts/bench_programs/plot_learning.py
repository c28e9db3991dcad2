"""Draws docs/learning.png from the runs that `scripts/bench learning` left in target/bench/learning.

Usage: python scripts/bench_programs/plot_learning.py [FOLDER [PICTURE]] (needs matplotlib)

One panel for each batch size of which there are runs; a line is the mean over the seeds that are there.
"""

import json
import pathlib
import sys

import matplotlib

matplotlib.use("Agg")
import matplotlib.pyplot as plt

# Inner steps of a run, whatever its rounds: 40 of 15, but the default's 40 of 5 and 27 of 15.
STEPS = {"default": 605}
PANELS = {"": "2 windows per worker", "b8-": "8 windows per worker"}
LINES = {
    "solo": "one worker alone",
    "k512": "4 workers, 512 of 4096, 2-bit values",
    "default": "the default: short rounds, then larger outer steps",
    "dense": "4 workers, whole pseudo-gradients",
    "synchronous": "synchronous, same tokens",
}


def curve(path, total_steps):
    """Inner steps taken and held-out loss after each round."""
    rounds = [json.loads(line) for line in path.read_text().splitlines()]
    total, seen, steps = sum(line["tokens"] for line in rounds), 0, []
    for line in rounds:
        seen += line["tokens"]
        steps.append(total_steps * seen / total)
    return steps, [line["eval_loss"] for line in rounds]


def main():
    folder = pathlib.Path(sys.argv[1] if len(sys.argv) > 1 else "target/bench/learning")
    runs = {
        prefix: {
            name: [
                curve(path, STEPS.get(name, 600)) for path in sorted(folder.glob(f"{prefix}{name}.[0-9].jsonl"))
            ]
            for name in LINES
        }
        for prefix in PANELS
    }
    panels = [prefix for prefix in PANELS if any(runs[prefix].values())]
    if not panels:
        raise SystemExit(f"no runs in {folder}; run scripts/bench learning first")
    _, axes = plt.subplots(1, len(panels), figsize=(6.2 * len(panels), 4.2), squeeze=False)
    for axis, prefix in zip(axes[0], panels):
        for (name, label), color in zip(LINES.items(), plt.rcParams["axes.prop_cycle"].by_key()["color"]):
            seeds = runs[prefix][name]
            if seeds:
                mean = [sum(values) / len(values) for values in zip(*(losses for _, losses in seeds))]
                count = f"{len(seeds)} seed{'s' if len(seeds) > 1 else ''}"
                axis.plot(seeds[0][0], mean, label=f"{label} ({count})", color=color)
        axis.set_title(PANELS[prefix])
        axis.set_xlabel("inner steps")
        axis.set_ylabel("held-out loss, nats per byte")
        axis.set_ylim(1.7 if prefix else 1.95, 3.2)
        axis.legend(frameon=False)
    plt.tight_layout()
    plt.savefig(sys.argv[2] if len(sys.argv) > 2 else "docs/learning.png", dpi=110)


if __name__ == "__main__":
    main()
