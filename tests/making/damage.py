"""Damage to files: bytes that flip."""


def flip(path, place=-20):
    """Another bit in one byte."""
    data = bytearray(path.read_bytes())
    data[place] ^= 0x10
    path.write_bytes(bytes(data))
