"""Pictures of Prefect's pages and of ours for the guide: `python -m benchmarks.screenshots FOLDER [FLOW_RUN…]`.

Wants a server that PREFECT_API_URL names (`make schedule`) and Debian's chromium. Without names of flow runs: the
newest of each state. Also data/runs/index.html and the newest run's page, light and dark.
"""

import io
import os
import sys
from pathlib import Path

import requests
from PIL import Image
from playwright.sync_api import Browser, ViewportSize, sync_playwright

from tasks import runs

ROOT = Path(__file__).resolve().parent.parent
CHROMIUM = "/usr/bin/chromium"
SIZE: ViewportSize = {"width": 1280, "height": 900}
SETTLE_MS = 4000  # Prefect's pages draw while they fetch


def main(folder: Path, chosen: list[str]) -> int:
    """Write the pictures; the exit status."""
    folder.mkdir(parents=True, exist_ok=True)
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        server = os.environ.get("PREFECT_API_URL", "").removesuffix("/api")
        if server:
            prefects(browser, server, folder, chosen)
        ours(browser, folder)
        browser.close()
    print(*sorted(path.name for path in folder.glob("*.webp")), sep="\n")
    return 0


def prefects(browser: Browser, server: str, folder: Path, chosen: list[str]) -> None:
    """The list of runs, and the page of each that is chosen or, by default, of the newest in each state."""
    body = {"sort": "START_TIME_DESC", "limit": 200}
    found = requests.post(f"{server}/api/flow_runs/filter", json=body, timeout=60).json()
    started = [run for run in found if run["start_time"] and (not chosen or run["id"] in chosen)]
    newest = {run["state_name"]: run for run in reversed(started)}
    pages = {"runs": f"{server}/runs"}
    pages |= {f"run-{name.lower()}": f"{server}/runs/flow-run/{run['id']}" for name, run in newest.items()}
    for name, address in pages.items():
        page = browser.new_page(viewport=SIZE)
        page.goto(address)
        page.wait_for_timeout(SETTLE_MS)
        keep(page.screenshot(), folder / f"prefect-{name}.webp")
        page.close()


def ours(browser: Browser, folder: Path) -> None:
    """The index of all runs and the newest run's page, light and dark."""
    records, _ = runs.read_all(ROOT)
    pages = {"index": ROOT / runs.FOLDER / "index.html"}
    with_figures = [record for record in records if record.figures]
    if with_figures:
        pages["run"] = ROOT / runs.FOLDER / with_figures[-1].id / "index.html"
    for name, file in pages.items():
        for scheme in ("light", "dark"):
            page = browser.new_page(viewport=SIZE, color_scheme=scheme)
            if file.is_file():
                page.goto(file.as_uri())
                keep(page.screenshot(full_page=True), folder / f"runs-{name}-{scheme}.webp")
            page.close()


def keep(content: bytes, path: Path) -> None:
    """A screenshot, small enough for git."""
    Image.open(io.BytesIO(content)).convert("RGB").save(path, "WEBP", quality=80, method=6)


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1]), sys.argv[2:]))
