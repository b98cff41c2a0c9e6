"""`python -m bench [NAME ...]`: run the measurements, print the table, keep it in bench/results/."""

import argparse
import importlib
from pathlib import Path

from bench.common import REHEARSE, THREADS, Skipped, machine

PARTS = (
    "exactness",
    "clicks",
    "cache",
    "encoders",
    "automatic",
    "amg",
    "semantic",
    "instances",
    "hausdorff",
    "large",
    "finetune",
    "gpu",
    "memory",
    "jobs",
    "load",
    "starter",
)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("parts", nargs="*", default=PARTS, metavar="|".join(PARTS))
    results = Path(__file__).parent / "results"
    results.mkdir(exist_ok=True)
    for part in parser.parse_args().parts:
        try:
            lines = importlib.import_module(f"bench.{part}").measure()
        except Skipped as reason:  # the results of where it could be measured stay
            print(f"\n## {part}\n\nskipped: {reason}", flush=True)
            continue
        table = "\n".join(
            [
                f"{machine()}, {THREADS} threads\n",
                "| what | measured | target | met |",
                "|---|---|---|---|",
                *(line.row() for line in lines),
            ]
        )
        if not REHEARSE:
            (results / f"{part}.md").write_text(table + "\n")
        print(f"\n## {part}\n\n{table}", flush=True)


if __name__ == "__main__":
    main()
