"""`vitbench run vtab --dry-run` on a machine that has nothing, as a whole process: at most 3 s (median of five)."""

import os
import statistics
import subprocess
import sys
import tempfile
import time

LIMIT_S = 3.0
COMMAND = [sys.executable, "-m", "vitbench", "run", "vtab", "--dry-run"]


def seconds():
    with tempfile.TemporaryDirectory() as home:
        environment = {
            **os.environ,
            "HOME": home,
            "VITBENCH_CACHE": f"{home}/cache",
            "TFDS_DATA_DIR": f"{home}/data",
        }
        start = time.perf_counter()
        subprocess.run(COMMAND, env=environment, cwd=home, capture_output=True, check=True)
        return time.perf_counter() - start


def main():
    taken = sorted(seconds() for _ in range(5))
    middle = statistics.median(taken)
    print(f"{middle:.2f} s ({taken[0]:.2f} to {taken[-1]:.2f}), limit {LIMIT_S} s")
    return int(middle > LIMIT_S)


if __name__ == "__main__":
    sys.exit(main())
