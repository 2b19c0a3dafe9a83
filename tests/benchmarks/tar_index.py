"""The first index of a million images in webdataset's tar files: at most 10 s and 500 MB, with pax headers too."""

import io
import resource
import sys
import tarfile
import tempfile
import time
from pathlib import Path

from vitbench.data.tar_images import TarTable

LIMIT_S = 10.0
LIMIT_BYTES = 500e6
IMAGES = 100_000  # written; each file is listed ten times
FORMATS = {"gnu": tarfile.GNU_FORMAT, "pax": tarfile.PAX_FORMAT}


def write(folder, form):
    for number in range(10):
        with tarfile.open(folder / f"{number}.tar", "w", format=form) as tar:
            for key in range(number * IMAGES // 10, (number + 1) * IMAGES // 10):
                for ending, data in (("jpg", b"x" * 900), ("cls", b"7")):
                    member = tarfile.TarInfo(f"s{key:07d}.{ending}")
                    member.size = len(data)
                    member.mtime = 1_700_000_000.5 if form == tarfile.PAX_FORMAT else 1_700_000_000
                    tar.addfile(member, io.BytesIO(data))


def main():
    failed = False
    for name, form in FORMATS.items():
        with tempfile.TemporaryDirectory() as folder:
            write(Path(folder), form)
            files = tuple(f"{number}.tar" for number in range(10)) * 10
            before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
            start = time.perf_counter()
            table = TarTable(Path(folder), files)._read_index()
            taken_s = time.perf_counter() - start
            above_bytes = (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) * 1024
            assert len(table["key"]) == 10 * IMAGES
            print(f"{name}: {taken_s:.1f} s, {above_bytes / 1e6:.0f} MB; limits {LIMIT_S} s, 500 MB")
            failed |= taken_s > LIMIT_S or above_bytes > LIMIT_BYTES
    return int(failed)


if __name__ == "__main__":
    sys.exit(main())
