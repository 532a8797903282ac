"""Run the benchmarks: `python -m benchmarks`, or some by name: `python -m benchmarks frozen step`.

Every part is a module with a `measure()` that returns JSON types. It runs in a process of its own; what it returns
is written as `benchmarks/PART.json` as soon as it ends. A part that fails leaves its old file; the others still run.
"""

import argparse
import importlib
import json
import os
import sys
import time
import traceback
from datetime import date

from benchmarks import report
from benchmarks.measuring import alone, machine
from cifake_utils import records
from cifake_utils.support.files import replacing


def run(part: str) -> None:
    start = time.perf_counter()
    results = alone(importlib.import_module(f"benchmarks.{part}").measure)
    about = {"date": date.today().isoformat(), "machine": alone(machine), "versions": records.versions()}
    document = about | {"seconds": time.perf_counter() - start} | results
    with replacing(report.FOLDER / f"{part}.json") as partial:
        partial.write_text(json.dumps(document, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
    print(f"{part}: {document['seconds']:.0f} s", flush=True)


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__.partition("\n")[0])
    parser.add_argument("parts", nargs="*", metavar="PART", help=f"default: all of {', '.join(report.PARTS)}")
    parts = parser.parse_args().parts or list(report.PARTS)
    if unknown := set(parts) - set(report.PARTS):
        parser.error(f"there is no part {', '.join(sorted(unknown))}; choose among: {', '.join(report.PARTS)}")
    os.environ["TQDM_DISABLE"] = "1"  # no progress bars
    failed = []
    for part in parts:
        try:
            run(part)
        except Exception:  # the other parts still run
            traceback.print_exc()
            failed.append(part)
    report.draw_step()
    print(f"\n{report.tables()}")
    if failed:
        print(f"Failed: {', '.join(failed)}", file=sys.stderr)
    return int(bool(failed))


if __name__ == "__main__":
    sys.exit(main())
