"""Verifies a log with aics-tlog, which has nothing in common with the program that wrote it.

tlog_check.py FOLDER: FOLDER has the log's files in `log`, its key in `log.vkey`, and perhaps signed checkpoints of earlier sizes in
`checkpoint.SIZE`. The log is served over HTTP by Python's own server. What must hold is checked first, and then that damage is found:
a byte in every tile and bundle, in the checkpoint, and a key that is not the log's.
"""

import functools
import http.server
import shutil
import sys
import tempfile
import threading
from pathlib import Path

from aics_tlog import (
    HttpTileReader,
    MerkleTree,
    VerifiedTileReader,
    audit_tiles,
    consistency_proof_from_tiles,
    inclusion_proof_from_tiles,
    parse_checkpoint,
    parse_note,
    parse_vkey,
    tiles,
    verify_checkpoint,
    verify_consistency,
    verify_leaf_inclusion,
    vkey_from_ed25519,
)
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

# Of longer logs the proofs of this many entries are computed one by one, spread evenly; all entries are held against their tiles.
PROOFS = 1000
# Of longer logs a byte is changed in this many files, spread evenly.
DAMAGED = 12


class Quiet(http.server.SimpleHTTPRequestHandler):
    def log_message(self, *_):
        pass


def serve(folder):
    handler = functools.partial(Quiet, directory=folder)
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    return f"http://127.0.0.1:{server.server_address[1]}/"


def signed(note, key):
    """The checkpoint of a note, which must be signed with the key."""
    note = parse_note(note)
    result = verify_checkpoint(note, key, expected_origin=key.name)
    if not result.ok:
        raise ValueError(result.error or "the signature does not hold")
    return parse_checkpoint(note.text)


def spread(count, most):
    return range(count) if count <= most else sorted({i * (count - 1) // (most - 1) for i in range(most)})


def files_of(size):
    """Every file that a log of this size consists of."""
    level, found = 0, []
    while size >> 8 * level:
        count = size >> 8 * level
        for index in range((count + 255) // 256):
            width = None if count >= 256 * (index + 1) else count % 256
            found.append(tiles.tile_path(level, index, width))
            if level == 0:
                found.append(tiles.entry_bundle_path(index, width))
        level += 1
    return found


def check(url, key, older):
    """Everything that must hold; what was found, in words."""
    reader = HttpTileReader(url)
    head = signed(reader.read_checkpoint(), key)
    report = audit_tiles(reader, head.size, head.root)
    log = VerifiedTileReader(reader, head.size, head.root)
    entries = [log.entry(index) for index in range(head.size)]
    tree = MerkleTree(entries)
    assert tree.root() == head.root, "the entries do not make the signed root"
    proved = spread(head.size, PROOFS)
    for index in proved:
        proof = inclusion_proof_from_tiles(log, index, head.size)
        assert verify_leaf_inclusion(entries[index], index, head.size, proof, head.root), index
        assert not verify_leaf_inclusion(entries[index] + b"!", index, head.size, proof, head.root), index
    # Where nobody kept a signed checkpoint, the root of an earlier size is that of the entries.
    heads = {size: tree.root(size) for size in spread(head.size + 1, 40)}
    before = [signed(note, key) for note in older]
    heads.update({old.size: old.root for old in before})
    for size, root in heads.items():
        proof = consistency_proof_from_tiles(log, size, head.size)
        assert verify_consistency(size, head.size, root, head.root, proof), size
        if 0 < size < head.size:
            other = bytes([root[0] ^ 1]) + root[1:]
            assert not verify_consistency(size, head.size, other, head.root, proof), size
    return (
        f"{head.origin}: a signed checkpoint of {head.size} entries; {report.tiles} tiles and {report.bundles} bundles fit it; "
        f"{len(proved)} inclusion proofs; {len(heads)} consistency proofs, {len(before)} of them from signed checkpoints"
    )


def refused(what, action):
    try:
        action()
    except (ValueError, AssertionError, OSError) as error:
        return f"{type(error).__name__}: {error}"
    sys.exit(f"{what}: nothing was found")


def flip(path, at):
    content = bytearray(path.read_bytes())
    content[at % len(content)] ^= 1
    path.write_bytes(content)


def damage(url, folder, key):
    """Every kind of damage must be found; the last report of each."""
    reader = HttpTileReader(url)
    whole = (folder / "checkpoint").read_bytes()
    head = signed(whole, key)
    audit = lambda: audit_tiles(HttpTileReader(url), head.size, head.root)  # noqa: E731
    audit()
    every = files_of(head.size)
    chosen = [every[i] for i in spread(len(every), DAMAGED)]
    report = ""
    for number, name in enumerate(chosen):
        path = folder / name
        kept = path.read_bytes()
        flip(path, 37 * number)
        report = refused(name, audit)
        path.write_bytes(kept)
    audit()
    print(f"a byte changed in each of {len(chosen)} of {len(every)} files: found every time, as in\n  {report}")

    reported = {}
    for at in range(len(whole)):
        flip(folder / "checkpoint", at)
        reported[at] = refused(f"byte {at} of the checkpoint", lambda: signed(reader.read_checkpoint(), key))
        (folder / "checkpoint").write_bytes(whole)
    print(f"each of the {len(whole)} bytes of the checkpoint changed: found every time, as in\n  {reported[len(whole) // 2]}")

    other = vkey_from_ed25519(key.name, Ed25519PrivateKey.generate().public_key())
    print(f"another key of the same name: found, as\n  {refused('another key', lambda: signed(whole, other))}")


def main():
    folder = Path(sys.argv[1])
    key = parse_vkey((folder / "log.vkey").read_text().strip())
    older = [path.read_bytes() for path in sorted(folder.glob("checkpoint.*"))]
    print(check(serve(folder / "log"), key, older))
    with tempfile.TemporaryDirectory() as made:
        copy = Path(made) / "log"
        shutil.copytree(folder / "log", copy)
        damage(serve(copy), copy, key)


main()
