"""Loads a dataset of ours through mlcroissant and compares every record with the JSON lines beside it.

Usage: croissant_check.py FOLDER. Prints what was compared; ends with 1 at the first difference.
"""

import collections
import hashlib
import json
import logging
import pathlib
import sys

import mlcroissant as mlc


def tagged(text: str) -> str:
    """The name of a text: SHA-256 with the tag hashed twice before it, as in BIP-340."""
    tag = hashlib.sha256(b"watershed/text/v1").digest()
    return hashlib.sha256(tag + tag + text.encode()).hexdigest()


def plain(value):
    """Values of mlcroissant as those of JSON: bytes are text, arrays lists, and what is not there is None."""
    if isinstance(value, bytes):
        return value.decode()
    if hasattr(value, "tolist"):
        value = value.tolist()
    if isinstance(value, (list, tuple)):
        return [plain(v) for v in value]
    if isinstance(value, float) and value != value:
        return None
    return value


def fail(message: str):
    sys.exit(f"DIFFERENT: {message}")


class Warnings(logging.Handler):
    """Keeps what mlcroissant warns of."""

    def __init__(self):
        super().__init__(logging.WARNING)
        self.seen = []

    def emit(self, record):
        self.seen.append(record.getMessage())


def main(folder: pathlib.Path):
    warnings = Warnings()
    logging.getLogger("absl").addHandler(warnings)
    description = folder / "croissant.json"
    dataset = mlc.Dataset(str(description))
    issues = dataset.metadata.ctx.issues
    if issues.errors or issues.warnings or warnings.seen:
        fail(f"mlcroissant says {issues.errors} {issues.warnings} {warnings.seen}")
    lines = [json.loads(line) for line in (folder / "deposits.jsonl").read_text().splitlines()]
    expected = {line["id"]: line for line in lines}
    for record_set in ["deposits", "deposits_jsonl"]:
        found = 0
        for record in dataset.records(record_set):
            row = {key.split("/", 1)[1]: plain(value) for key, value in record.items()}
            line = expected.get(row["id"]) or fail(f"{record_set} has a record {row['id']} of its own")
            for key, value in line.items():
                if row[key] != value:
                    fail(f"{record_set}, record {row['id']}, {key}: {row[key]!r} is not {value!r}")
            found += 1
        if found != len(lines):
            fail(f"{record_set} has {found} records, the file {len(lines)} lines")
        print(f"{record_set}: {found} records are those of deposits.jsonl, field by field")
    shown = 0
    for line in lines:
        if (line["tier"] == "train+index") != (line["text"] is not None):
            fail(f"deposit {line['id']} of tier {line['tier']}: its text should be there or not")
        if line["text"] is not None:
            shown += 1
            if tagged(line["text"]) != line["text_hash"] or len(line["text"].encode()) != line["bytes"]:
                fail(f"the text of deposit {line['id']} is not the one that was signed")
    print(f"{shown} texts are shown, all of tier train+index, and have the hashes their contributors signed")
    tiers = {plain(r["tiers/name"]): plain(r["tiers/policy"]) for r in dataset.records("tiers")}
    offers = json.loads(description.read_text())["usageInfo"]
    if sorted(tiers.values()) != sorted(offer["@id"] for offer in offers) or {l["tier"] for l in lines} != set(tiers):
        fail("tiers and policies do not fit")
    print(f"every tier has its policy: {', '.join(sorted(tiers))}")
    registers = collections.Counter(line["register"] for line in lines)
    print("deposits by register: " + ", ".join(f"{name} {n}" for name, n in sorted(registers.items())))


if __name__ == "__main__":
    if len(sys.argv) != 2:
        sys.exit(__doc__)
    main(pathlib.Path(sys.argv[1]))
