"""Fuzzes the stream parser, guided by coverage. Needs the extra `fuzz` (atheris, Linux).

usage: python -m tests.fuzz.fuzz_stream [--seconds 120] [--keep FOLDER] [libFuzzer's options]

An input that breaks an invariant is written to the working folder as crash-…; what it shows becomes a test.
`--keep` gets every input that reached something new; `--keep NEW -merge=1 FOLDER` keeps as few of them as reach it all.
"""

import argparse
import shlex
import sys
import tempfile
from pathlib import Path

import atheris

with atheris.instrument_imports(
    include=["loadstair.load.sse", "loadstair.load.alike", "loadstair.load.chunks", "loadstair.load.timeline"]
):
    from tests.fuzz.invariants import check
from tests.fuzz.seeds import seeds

FOLDER = Path(__file__).parent
STREAM_BYTES_MAX = 4096


def check_one(data: bytes) -> None:
    check(data)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=int, default=120)
    parser.add_argument("--keep", type=Path)
    options, others = parser.parse_known_args()
    with tempfile.TemporaryDirectory() as folder:
        fresh = options.keep or Path(folder) / "found"
        written = Path(folder) / "seeds"
        for place in (fresh, written):
            place.mkdir(parents=True, exist_ok=True)
        for name, data in seeds().items():
            (written / name).write_bytes(data)
        limits = [
            f"-max_total_time={options.seconds}",
            f"-max_len={STREAM_BYTES_MAX}",
            f"-dict={FOLDER / 'stream.dict'}",
        ]
        # With -merge=1 libFuzzer starts itself again, as a shell would.
        command = f"{shlex.quote(sys.executable)} -m tests.fuzz.fuzz_stream"
        atheris.Setup([command, *limits, str(fresh), str(FOLDER / "corpus"), str(written), *others], check_one)
        atheris.Fuzz()


if __name__ == "__main__":
    main()
