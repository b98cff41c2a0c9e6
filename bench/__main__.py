"""`python -m bench [NAME ...]`: run benchmarks, print their tables, and keep them in bench/results/."""

import argparse
import importlib
import os
from pathlib import Path

from bench.measuring import REHEARSE, THREADS, Skipped, describe_machine

BENCHMARKS = (
    "exactness",
    "clicks",
    "cache",
    "encoders",
    "automatic",
    "amg",
    "similar",
    "semantic",
    "instances",
    "hausdorff",
    "large_image",
    "file_uploads",
    "finetune",
    "gpu",
    "sam2_memory",
    "jobs",
    "load",
    "fairness",
    "capacity",
    "hover",
    "processes",
    "peers",
    "models",
    "first_mask",
    "starter",
    "starter_trial",
    "results",
    "browser_decode",
    "page",
    "page_clicks",
)


COLUMNS = ("what", "measured", "target", "met")  # of a table that names no others


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("names", nargs="*", default=BENCHMARKS, metavar="|".join(BENCHMARKS))
    parser.add_argument(
        "--model",
        choices=("mobile-sam", "random"),
        help="weights of clicks, amg, exactness, encoders, load [default: mobile-sam where it can be pulled]",
    )
    arguments = parser.parse_args()
    if arguments.model:
        os.environ["BENCH_MODEL"] = arguments.model
    results = Path(__file__).parent / "results"
    results.mkdir(exist_ok=True)
    for name in arguments.names:
        try:
            module = importlib.import_module(f"bench.{name}")
            measurements = module.measure()
        except Skipped as reason:  # the results of an earlier machine stay
            print(f"\n## {name}\n\nskipped: {reason}", flush=True)
            continue
        columns = getattr(module, "COLUMNS", COLUMNS)
        table = "\n".join(
            [
                f"{describe_machine()}, {THREADS} threads\n",
                f"| {' | '.join(columns)} |",
                "|---" * len(columns) + "|",
                *(each.to_row() for each in measurements),
            ]
        )
        if not REHEARSE:
            (results / f"{name}.md").write_text(table + "\n")
        print(f"\n## {name}\n\n{table}", flush=True)


if __name__ == "__main__":
    main()
