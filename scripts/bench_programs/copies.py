"""Repeats a corpus under new names until it has a given size.

Usage: copies.py CORPUS FILE.jsonl MEGABYTES. Each copy of a text begins with a line that no other has, so that it is another
text; its register is the folder it lies in.
"""

import json
import pathlib
import sys


def main(corpus: pathlib.Path, out: pathlib.Path, megabytes: int):
    texts = [(p.parent.name, p.stem, p.read_text()) for p in sorted(corpus.rglob("*.txt"))]
    written, copy = 0, 0
    with out.open("w") as file:
        while written < megabytes * 1_000_000:
            for register, name, text in texts:
                record = {"text": f"Copy {copy} of {name}\n{text}", "title": f"{name} {copy}", "register": register}
                file.write(json.dumps(record) + "\n")
                written += len(text.encode())
            copy += 1


if __name__ == "__main__":
    if len(sys.argv) != 4:
        sys.exit(__doc__)
    main(pathlib.Path(sys.argv[1]), pathlib.Path(sys.argv[2]), int(sys.argv[3]))
