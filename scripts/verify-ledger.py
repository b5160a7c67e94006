#!/usr/bin/env python3
"""Verify a copy of an edgelog ledger: verify-ledger.py DIR PUBLIC-KEY

Written from pkg/ledger/FORMAT.md, RFC 6962 section 2.1 and RFC 8032 section 5.1.7
alone, with nothing but Python's standard library, so that what edgelog says of its
own ledger need not be believed. It checks the signature of the checkpoint, the root
of the tree, each tile of hashes, the order of times, and that no other file is there.
The last word on stdout is the number of entries; exit code 1 means that a file is
wrong, and stderr names it.
"""
import base64
import hashlib
import json
import os
import struct
import sys

WIDTH, HASH = 256, 32


class Wrong(Exception):
    """A file is not what it should be."""


def sha256(data):
    return hashlib.sha256(data).digest()


# --- Ed25519 (RFC 8032 section 5.1), slow and short: one signature is checked.
P = 2**255 - 19
L = 2**252 + 27742317777372353535851937790883648493
D = -121665 * pow(121666, P - 2, P) % P
SQRT_M1 = pow(2, (P - 1) // 4, P)


def add(p, q):
    a, b = (p[1] - p[0]) * (q[1] - q[0]) % P, (p[1] + p[0]) * (q[1] + q[0]) % P
    c, d = 2 * p[3] * q[3] * D % P, 2 * p[2] * q[2] % P
    e, f, g, h = b - a, d - c, d + c, b + a
    return (e * f % P, g * h % P, f * g % P, e * h % P)


def times(n, p):
    q = (0, 1, 1, 0)
    while n > 0:
        if n & 1:
            q = add(q, p)
        p, n = add(p, p), n >> 1
    return q


def same(p, q):
    return (p[0] * q[2] - q[0] * p[2]) % P == 0 and (p[1] * q[2] - q[1] * p[2]) % P == 0


def point(b):
    y = int.from_bytes(b, "little")
    sign, y = y >> 255, y & ((1 << 255) - 1)
    if y >= P:
        return None
    x2 = (y * y - 1) * pow(D * y * y + 1, P - 2, P) % P
    x = pow(x2, (P + 3) // 8, P)
    if (x * x - x2) % P != 0:
        x = x * SQRT_M1 % P
    if (x * x - x2) % P != 0 or (x == 0 and sign):
        return None
    if x & 1 != sign:
        x = P - x
    return (x, y, 1, x * y % P)


BASE = point((4 * pow(5, P - 2, P) % P).to_bytes(32, "little"))


def signed(public, message, signature):
    a, r, s = point(public), point(signature[:32]), int.from_bytes(signature[32:], "little")
    if a is None or r is None or s >= L:
        return False
    h = int.from_bytes(hashlib.sha512(signature[:32] + public + message).digest(), "little") % L
    return same(times(s, BASE), add(r, times(h, a)))


# --- The files.
def read(directory, name):
    path = os.path.join(directory, name)
    if os.path.islink(path) or not os.path.isfile(path):
        raise Wrong(f"{name}: it is missing, or no regular file")
    with open(path, "rb") as f:
        return f.read()


def number(n):
    out = f"{n % 1000:03d}"
    while n >= 1000:
        n //= 1000
        out = f"x{n % 1000:03d}/{out}"
    return out


def name_of(level, n, width):
    return f"tile/{level}/{number(n)}" + ("" if width == WIDTH else f".p/{width}")


def checkpoint(directory, key):
    try:
        origin, key_hash, rest = key.split("+", 2)
        public = base64.b64decode(rest, validate=True)
    except ValueError as e:
        raise Wrong(f"public key: {e}") from e
    if len(public) != 33 or public[0] != 1:
        raise Wrong("public key: it is not one of Ed25519")
    if sha256(origin.encode() + b"\n" + public)[:4].hex() != key_hash:
        raise Wrong("public key: it is damaged")
    note = read(directory, "checkpoint")
    try:
        lines = note.decode().split("\n")
        size, root = int(lines[1]), base64.b64decode(lines[2], validate=True)
        dash, name, sig = lines[4].split(" ")
        raw = base64.b64decode(sig, validate=True)
    except (ValueError, IndexError) as e:
        raise Wrong(f"checkpoint: {e}") from e
    again = f"{origin}\n{size}\n{base64.b64encode(root).decode()}\n\n\u2014 {origin} {base64.b64encode(raw).decode()}\n"
    if again.encode() != note or name != origin or dash != "\u2014" or len(raw) != 68 or len(root) != HASH:
        raise Wrong("checkpoint: it is not written as a checkpoint of this ledger")
    text = note[: note.index(b"\n\n") + 1]
    if raw[:4].hex() != key_hash or not signed(public[1:], text, raw[4:]):
        raise Wrong("checkpoint: the signature is not that of the public key")
    return size, root


def entries(directory, n, width):
    name = name_of("entries", n, width)
    data, at, out = read(directory, name), 0, []
    while at < len(data):
        if at + 2 > len(data):
            raise Wrong(f"{name}: it is cut off")
        (size,) = struct.unpack_from(">H", data, at)
        at += 2
        if at + size > len(data):
            raise Wrong(f"{name}: it is cut off")
        out.append(data[at : at + size])
        at += size
    if len(out) != width:
        raise Wrong(f"{name}: {len(out)} entries instead of {width}")
    return out


def tree(hashes):
    """The Merkle Tree Hash of hashes of leaves (RFC 6962 section 2.1)."""
    if not hashes:
        return sha256(b"")
    while len(hashes) > 1:
        odd = [hashes[-1]] if len(hashes) % 2 else []
        hashes = [sha256(b"\x01" + a + b) for a, b in zip(hashes[::2], hashes[1::2])] + odd
    return hashes[0]


def verify(directory, key):
    size, root = checkpoint(directory, key)
    needed, leaves, last, back = {"checkpoint"}, [], "", 0
    for n in range(size // WIDTH + 1):
        width = min(WIDTH, size - n * WIDTH)
        needed.add(name_of("entries", n, width))
        for e in entries(directory, n, width):
            leaves.append(sha256(b"\x00" + e))
            try:
                when = json.loads(e)["time"]
            except (ValueError, KeyError, TypeError) as err:
                raise Wrong(f"entry {len(leaves) - 1}: {err}") from err
            back += when < last
            last = when
    level, hashes = 0, leaves
    while hashes:
        for n in range((len(hashes) + WIDTH - 1) // WIDTH):
            part = hashes[n * WIDTH : (n + 1) * WIDTH]
            name = name_of(level, n, len(part))
            needed.add(name)
            if read(directory, name) != b"".join(part):
                raise Wrong(f"{name}: it does not hold the hashes of its entries")
        full = len(hashes) // WIDTH
        hashes = [tree(hashes[n * WIDTH : (n + 1) * WIDTH]) for n in range(full)]
        level += 1
    if tree(leaves) != root:
        raise Wrong("checkpoint: the entries do not give the signed root")
    for where, _, files in os.walk(directory):
        for f in files:
            name = os.path.relpath(os.path.join(where, f), directory)
            if name == "public.key" and read(directory, name) != key.encode() + b"\n":
                raise Wrong("public.key: it is not the key that was given")
            if name not in needed and name not in ("signer.key", "public.key"):
                raise Wrong(f"{name}: it does not belong to the ledger")
    return size, back


def main():
    if len(sys.argv) != 3:
        print(__doc__.splitlines()[0], file=sys.stderr)
        return 2
    try:
        size, back = verify(sys.argv[1], sys.argv[2].strip())
    except (Wrong, OSError) as e:
        print(f"verify-ledger: {e}", file=sys.stderr)
        return 1
    if back:
        print(f"verify-ledger: at {back} entries the time goes back", file=sys.stderr)
    print(f"the ledger is whole: entries {size}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
