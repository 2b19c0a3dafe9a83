"""Damage to files: bytes that flip, and record files that are wrong in every way there is."""

import hashlib
import json


def flip(path, place=-20):
    """Another bit in one byte."""
    data = bytearray(path.read_bytes())
    data[place] ^= 0x10
    path.write_bytes(bytes(data))


def resigned(path, change):
    """Another body, under its right digest."""
    head, body = path.read_bytes().split(b",\n", 1)
    body = change(body)
    path.write_bytes(
        head[: head.index(b":")] + b': "%s",\n' % hashlib.sha256(body).hexdigest().encode() + body
    )


def edited(**fields):
    """Damage that sets fields by hand, and the digest with them; a value may be of any type."""

    def edit(body):
        return json.dumps(json.loads(b"{" + body) | fields, indent=1).removeprefix("{\n").encode() + b"\n"

    return lambda path: resigned(path, edit)


def _cut(part):
    return lambda path: path.write_bytes(path.read_bytes()[: int(path.stat().st_size * part)])


def _replaced(make):
    def replace(path):
        path.unlink()
        make(path)

    return replace


HUGE = b"0" * 5000
NO_NUMBER = {"top1": {"value": float("nan"), "ci_low": 0, "ci_high": 1, "n": 1}}
DAMAGES = {
    "empty": _cut(0), "one byte": lambda path: path.write_bytes(b"{"), "half": _cut(0.5), "no last line": _cut(0.999),
    "a flipped bit": flip, "zeros": lambda path: path.write_bytes(bytes(path.stat().st_size)),
    "another digest": lambda path: flip(path, 20), "text behind": lambda path: path.write_bytes(path.read_bytes() + b"{}"),
    "no JSON": lambda path: resigned(path, lambda _: b"} x"), "no fields": lambda path: resigned(path, lambda _: b"}"),
    "not UTF-8": lambda path: resigned(path, lambda body: body.replace(b'"net 0"', b'"\xff\xfe"')),
    "half a surrogate pair": lambda path: resigned(path, lambda body: body.replace(b'"net 0"', b'"\\ud800"')),
    "deep": lambda path: resigned(path, lambda _: b'"key": ' + b"[" * 10_000 + b"]" * 10_000 + b"}"),
    "another schema": edited(schema_version=2), "an extra field": edited(extra=1), "NaN": edited(metrics=NO_NUMBER),
    "too large a number": lambda path: resigned(path, lambda body: body.replace(b'"seed": 0', b'"seed": 1' + HUGE)),
    "an infinite number": lambda path: resigned(path, lambda body: body.replace(b'"size_px": 8', b'"size_px": 1e999')),
    "another key": edited(key="0" * 24), "a key that is a path": edited(key="../../x"), "a number as text": edited(created=5),
    "a list as a record": edited(job=[]), "no job": edited(job=None), "another status": edited(status="fine"),
    "a negative count": edited(worst=[-1]), "a score above one": edited(metrics={"top1": NO_NUMBER["top1"] | {"value": 2}}),
    "a folder": _replaced(lambda path: path.mkdir()), "a loop": _replaced(lambda path: path.symlink_to(path.name)),
    "a broken link": _replaced(lambda path: path.symlink_to("nowhere")),
    "a device": _replaced(lambda path: path.symlink_to("/dev/zero")),
}  # fmt: skip
