"""Draw the figures of READMEs: docs/demo.png from a run of five students, docs/policy-finetune.png from a result.

minimax-ued train --preset small --seeds 5 --out runs/readme
python tools/readme_figure.py demo runs/readme
python tools/readme_figure.py policy-finetune benchmarks/results/policy_finetune_improve-pendulum.json
"""

from __future__ import annotations

import argparse
import json
import shutil
import tempfile
from pathlib import Path

from PIL import Image

#: What the figure of policy-finetune shows of the result.
ARMS = ("td3", "td3c", "td3 LayerNorm", "td3c LayerNorm")


def demo(run: Path, out: Path) -> None:
    """Put a run's learning curve and the levels that its students train on side by side; nothing is drawn here."""
    names = ("held_out-solve_rate.png", "levels.png")
    curve, levels = (Image.open(run / "plots" / name).convert("RGB") for name in names)
    height = levels.height
    curve = curve.resize((round(curve.width * height / curve.height), height), Image.Resampling.LANCZOS)
    sheet = Image.new("RGB", (curve.width + levels.width, height), "white")
    sheet.paste(curve, (0, 0))
    sheet.paste(levels, (curve.width, 0))
    sheet.quantize(64).save(out, optimize=True)


def policy_finetune(result: Path, out: Path) -> None:
    """Draw what four arms kept and where they ended, with the result's own intervals."""
    from paperloop_lab import plots
    from paperloop_lab.stats import Interval

    rows = {row["arm"]: row for row in json.loads(result.read_text(encoding="utf-8"))["rows"]}
    shown = {"lowest return / start": "min_over_start", "final return, 50 episodes": "final_again"}
    panels = {title: {arm: Interval(*rows[arm][name]) for arm in ARMS} for title, name in shown.items()}
    with tempfile.TemporaryDirectory() as folder:
        shutil.copy(plots.save_figure(plots.interval_bars(panels), Path(folder) / "bars.png"), out)


def main() -> None:
    """Draw one figure."""
    parser = argparse.ArgumentParser(description="Draw the figure of a README.")
    parser.add_argument("figure", choices=("demo", "policy-finetune"))
    parser.add_argument("source", type=Path, help="the run folder, or the result file")
    options = parser.parse_args()
    out = Path("docs") / f"{options.figure}.png"
    (demo if options.figure == "demo" else policy_finetune)(options.source, out)
    print(out)


if __name__ == "__main__":
    main()
