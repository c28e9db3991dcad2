"""Draws docs/learning.png from the runs that `scripts/bench learning` left in target/bench/learning.

Usage: python scripts/bench_programs/plot_learning.py (needs matplotlib)
"""

import json
import pathlib

import matplotlib

matplotlib.use("Agg")
import matplotlib.pyplot as plt

RUNS = pathlib.Path("target/bench/learning")
LINES = {
    "solo": "one worker alone",
    "k512": "4 workers, 512 of 4096, 2-bit values",
    "dense": "4 workers, whole pseudo-gradients",
    "synchronous": "synchronous, same tokens",
}


def main():
    plt.figure(figsize=(7, 4.2))
    for name, label in LINES.items():
        seeds = [
            [json.loads(line)["eval_loss"] for line in path.read_text().splitlines()]
            for path in sorted(RUNS.glob(f"{name}.[0-9].jsonl"))
        ]
        if not seeds:
            raise SystemExit(f"no runs of {name} in {RUNS}; run scripts/bench learning first")
        mean = [sum(values) / len(values) for values in zip(*seeds)]
        steps = [15 * (i + 1) for i in range(len(mean))]
        plt.plot(steps, mean, label=f"{label} ({len(seeds)} seeds)")
    plt.xlabel("inner steps")
    plt.ylabel("held-out loss, nats per byte")
    plt.ylim(1.95, 3.2)
    plt.legend(frameon=False)
    plt.tight_layout()
    plt.savefig("docs/learning.png", dpi=110)


if __name__ == "__main__":
    main()
