"""Counts the cells on every picture of a folder, and writes their areas and brightness to a table.

    python count_cells.py pictures/ cells.csv --server http://127.0.0.1:8000

One click per picture could correct what the model finds; here it finds all by itself. A picture that cannot be read is
told, and the others are counted. The service may be restarted meanwhile.
"""

import argparse
import csv
from pathlib import Path

import numpy as np
from PIL import Image as Pillow

from segserve_client import Client

parser = argparse.ArgumentParser()
parser.add_argument("folder", type=Path)
parser.add_argument("table", type=Path)
parser.add_argument("--server", default="http://127.0.0.1:8000")
parser.add_argument("--min-size", type=int, default=60, help="in pixels")
options = parser.parse_args()

# %% Send the pictures, and run AIS on each of them. The job goes on if this program is stopped.
paths = sorted(path for path in options.folder.iterdir() if path.is_file())
client = Client(options.server)
job = client.batch(
    paths,
    "automatic",
    params={"min_size": options.min_size},
    on_progress=lambda done, total: print(f"\rsent {done} of {total}", end="", flush=True),
)
print(f"\njob {job.job_id}")

# %% Measure every cell as the results come.
rows = []
for item in job:
    if item.error is not None:
        print(f"{item.name}: {item.error}")
        continue
    brightness = np.asarray(Pillow.open(paths[item.index]).convert("L"))
    for number, cell in enumerate(item.objects, 1):
        x0, y0, x1, y1 = cell.box
        inside = cell.array[y0:y1, x0:x1]
        rows.append([item.name, number, cell.area, round(float(brightness[y0:y1, x0:x1][inside].mean()), 1)])
    print(f"{item.name}: {len(item.objects)} cells")

# %% Write the table.
with options.table.open("w", newline="") as file:
    writer = csv.writer(file)
    writer.writerow(["picture", "cell", "area", "brightness"])
    writer.writerows(rows)
areas = np.array([row[2] for row in rows])
print(f"{len(rows)} cells, the median has {np.median(areas):.0f} pixels")
client.close()
