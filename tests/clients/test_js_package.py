"""The npm package of the JavaScript client: its types are checked, and what is published has types for others."""

import json
import shutil
import subprocess
from hashlib import sha256
from pathlib import Path

import pytest
from platformdirs import user_cache_path

from tests.docs_blocks import ROOT

pytestmark = pytest.mark.clients

PACKAGE = ROOT / "clients" / "js"
TIMEOUT_S = 300
# A program of another package, in TypeScript, strictly checked against the published types.
CONSUMER = """
import { Client, Problem, Segmenter, outline, rle, runs } from "segserve-client";
import { drawMasks } from "segserve-client/masks/raster.js";

const client = new Client({ baseUrl: "http://127.0.0.1:8000", retries: 2 });
const image = await client.uploadImage(new Blob([]), { model: "starter", onProgress: (sent, total) => sent / total });
const segmenter: Segmenter = new Segmenter({ client, decode: "auto" });
const answer = await segmenter.segment({ image_id: image.image_id, prompts: [{ points: [[1, 2]], labels: [1] }] });
const by: "server" | "browser" = answer.decoded.by;
const mask = rle.decode(answer.results[0]!.masks[0]!.mask);
const area: number = runs.area(mask);
const shape: "Polygon" | "MultiPolygon" = outline.toPolygon(mask, image.height).type;
drawMasks([{ runs: mask, height: image.height, fill: [1, 2, 3, 4] }], { x: 0, y: 0, width: 1, height: 1 }, 1);
for await (const event of client.jobEvents("j")) console.log(event.job.progress.done, by, area, shape);
for await (const line of client.jobResults("j")) {
  if ("frame" in line) console.log(line.frame, line.objects[0]!.object_id);
  else if ("index" in line) console.log(line.error?.detail, line.objects?.length);
  else console.log(line.slice);
}
const found = await client.automatic({ image_id: image.image_id, format: "rle", method: "ais" });
if ("objects" in found) console.log(found.objects[0]!.score);
else console.log(found.job_id);
const picture: Blob | { job_id: string } = await client.automatic({ image_id: image.image_id });
// @ts-expect-error without a format it is a picture
picture.objects;
const alike = await client.similar({ image_id: image.image_id, examples: [] });
const likeness: number = alike.objects[0]!.likeness;
console.log(likeness);
const problem = new Problem({ status: 404 });
// @ts-expect-error a status is a number
const wrong: string = problem.status;
console.log(wrong);
"""
CONSUMER_CONFIG = {
    "compilerOptions": {
        "strict": True,
        "noUncheckedIndexedAccess": True,
        "noEmit": True,
        "skipLibCheck": False,
        "module": "nodenext",
        "target": "es2023",
        "lib": ["es2023", "dom", "dom.iterable", "dom.asynciterable"],
        "types": [],
    }
}


def run(*command: str | Path, cwd: Path) -> str:
    """Run a command, and return what it prints. Fails with its output where it fails."""
    done = subprocess.run(
        [str(part) for part in command], cwd=cwd, capture_output=True, text=True, timeout=TIMEOUT_S
    )
    assert done.returncode == 0, f"{command}\n{done.stdout[-4000:]}\n{done.stderr[-4000:]}"
    return done.stdout


@pytest.fixture(scope="module")
def package(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of the package with its development dependencies, which are installed once for each version of them."""
    npm = shutil.which("npm")
    if npm is None:
        pytest.skip("npm is not installed: the types of the JavaScript client are not checked")
    description = json.loads((PACKAGE / "package.json").read_text())
    wanted = json.dumps({"private": True, "devDependencies": description["devDependencies"]})
    installed = user_cache_path("segserve-tests") / f"npm-{sha256(wanted.encode()).hexdigest()[:12]}"
    if not (installed / ".installed").exists():
        installed.mkdir(parents=True, exist_ok=True)
        (installed / "package.json").write_text(wanted)
        command = [npm, "install", "--no-audit", "--no-fund", "--loglevel", "error"]
        done = subprocess.run(command, cwd=installed, capture_output=True, text=True, timeout=TIMEOUT_S)
        if done.returncode:
            pytest.skip(
                f"npm install failed, the JavaScript client's types are not checked: {done.stderr[-400:]}"
            )
        (installed / ".installed").touch()
    ignored = shutil.ignore_patterns("node_modules", "vendor")
    copy = shutil.copytree(PACKAGE, tmp_path_factory.mktemp("package") / "js", ignore=ignored)
    (copy / "node_modules").symlink_to(installed / "node_modules")
    return copy


def test_its_types_are_right(package: Path) -> None:
    run("npm", "run", "--silent", "check", cwd=package)


def test_its_types_are_those_of_its_sources(package: Path) -> None:
    """They are in the repository, since an install from a folder builds nothing."""
    kept = read_types(package)
    run("npm", "run", "--silent", "types", cwd=package)
    assert read_types(package) == kept, "Run `npm run types` in clients/js."


def read_types(package: Path) -> dict[str, str]:
    types = package / "types"
    return {path.relative_to(types).as_posix(): path.read_text() for path in types.rglob("*.d.ts")}


def check_consumer(package: Path, folder: Path) -> None:
    """Type-check CONSUMER in a folder that has the package in its node_modules."""
    (folder / "package.json").write_text('{"type": "module"}')
    (folder / "tsconfig.json").write_text(json.dumps(CONSUMER_CONFIG))
    (folder / "consumer.ts").write_text(CONSUMER)
    run(package / "node_modules" / ".bin" / "tsc", "--project", ".", cwd=folder)


def test_others_can_use_what_is_published(package: Path, tmp_path: Path) -> None:
    [packed] = json.loads(run("npm", "pack", "--json", "--pack-destination", tmp_path, cwd=package))
    files = {entry["path"] for entry in packed["files"]}
    sources = {path.relative_to(PACKAGE).as_posix() for path in (PACKAGE / "src").rglob("*.js")}
    types = {path.replace("src/", "types/", 1).replace(".js", ".d.ts") for path in sources}
    assert files == {"package.json", "README.md", "LICENSE", *sources, *types}

    modules = tmp_path / "node_modules" / "segserve-client"
    modules.mkdir(parents=True)
    run("tar", "-xzf", tmp_path / packed["filename"], "--strip-components=1", "-C", modules, cwd=tmp_path)
    check_consumer(package, tmp_path)


def test_others_can_use_it_from_a_clone(package: Path, tmp_path: Path) -> None:
    """`npm install FOLDER` links the folder, and runs nothing in it."""
    clone = shutil.copytree(PACKAGE, tmp_path / "js", ignore=shutil.ignore_patterns("node_modules", "vendor"))
    page = tmp_path / "page"
    page.mkdir()
    (page / "package.json").write_text("{}")
    run("npm", "install", "--offline", "--no-audit", "--no-fund", "--omit=optional", clone, cwd=page)
    assert (page / "node_modules" / "segserve-client").is_symlink()
    check_consumer(package, page)
