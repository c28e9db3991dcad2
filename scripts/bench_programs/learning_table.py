"""Prints the last held-out loss of the runs that `scripts/bench learning` left in target/bench/learning.

Usage: python scripts/bench_programs/learning_table.py [FOLDER]

One line per run: the loss of each seed, their mean, their spread (largest minus smallest), inner steps and bytes that
each worker sent in all.
"""

import json
import pathlib
import sys


def main():
    folder = pathlib.Path(sys.argv[1] if len(sys.argv) > 1 else "target/bench/learning")
    runs = {}
    for path in sorted(folder.glob("*.jsonl")):
        name, seed = path.stem.rsplit(".", 1)
        runs.setdefault(name, {})[seed] = [json.loads(line) for line in path.read_text().splitlines()]
    print("| run | seeds | losses | mean | spread | tokens | bytes per worker |")
    print("|---|---|---|---|---|---|---|")
    for name, seeds in runs.items():
        losses = [rounds[-1]["eval_loss"] for rounds in seeds.values()]
        tokens = {sum(line["tokens"] for line in rounds) for rounds in seeds.values()}
        sent = [sum(line["bytes_per_worker"] for line in rounds) for rounds in seeds.values()]
        shown = " / ".join(f"{loss:.3f}" for loss in losses)
        mean, spread = sum(losses) / len(losses), max(losses) - min(losses)
        print(
            f"| {name} | {' '.join(seeds)} | {shown} | {mean:.3f} | {spread:.3f} "
            f"| {' '.join(str(t) for t in sorted(tokens))} | {sum(sent) // len(sent)} |"
        )


if __name__ == "__main__":
    main()
