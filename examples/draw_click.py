"""Click on an image through a running service, and draw the masks: the pictures in the README.

python examples/draw_click.py http://127.0.0.1:8000 examples/nuclei.png 413,190 537,348 -o examples/click.png
python examples/draw_click.py http://127.0.0.1:8000 coffee.png 290,150 140,320 370,290 230,230 --model mobile-sam \
    -o examples/photo.jpg
"""

import argparse
import io
from pathlib import Path

import httpx
import numpy as np
from PIL import Image, ImageDraw

COLOURS = [(80, 200, 120), (90, 150, 255), (255, 170, 60), (230, 90, 160)]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("url")
    parser.add_argument("image", type=Path)
    parser.add_argument("points", nargs="+", help="x,y")
    parser.add_argument("--model", help="the service's default model if left out")
    parser.add_argument("-o", "--output", type=Path, required=True)
    options = parser.parse_args()
    client = httpx.Client(base_url=options.url, timeout=60)
    image_id = client.post("/v1/images", files={"file": options.image.read_bytes()}).json()["image_id"]
    image = Image.open(options.image).convert("RGB")
    points = [tuple(float(v) for v in text.split(",")) for text in options.points]
    for number, point in enumerate(points):
        body = {"image_id": image_id, "model": options.model, "prompts": [{"points": [point]}]}
        response = client.post("/v1/segment", json=body, headers={"accept": "image/png"}).raise_for_status()
        mask = np.asarray(Image.open(io.BytesIO(response.content)))
        colour = np.array(COLOURS[number % len(COLOURS)])
        pixels = np.array(image)
        inner = mask & np.roll(mask, 2, 0) & np.roll(mask, -2, 0) & np.roll(mask, 2, 1) & np.roll(mask, -2, 1)
        pixels[mask] = 0.55 * pixels[mask] + 0.45 * colour
        pixels[mask & ~inner] = colour
        image = Image.fromarray(pixels)
    drawing = ImageDraw.Draw(image)
    for x, y in points:
        drawing.ellipse((x - 5, y - 5, x + 5, y + 5), fill="white", outline="black", width=2)
    image.save(options.output)


if __name__ == "__main__":
    main()
