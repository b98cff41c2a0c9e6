"""Write the images left aside for tuning: `python training/write_tuning.py --data NUCLEI --to FOLDER`.

`segserve evaluate search FOLDER/images FOLDER/masks --model starter` finds the thresholds that are best on them.
"""

import argparse
from pathlib import Path

import cv2
import numpy as np

from nuclei import read_nuclei, split_tuning


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--to", type=Path, required=True)
    options = parser.parse_args()
    for name in ("images", "masks"):
        (options.to / name).mkdir(parents=True, exist_ok=True)
    for each in split_tuning(read_nuclei(options.data)[0])[1]:
        cv2.imwrite(str(options.to / "images" / f"{each.name}.png"), each.image[..., ::-1])
        cv2.imwrite(str(options.to / "masks" / f"{each.name}.png"), each.mask.astype(np.uint16))


if __name__ == "__main__":
    main()
