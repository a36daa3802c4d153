"""Draw docs/demo.png, the figure in the README, from a run of five students.

    minimax-ued train --preset small --seeds 5 --out runs/readme
    python tools/readme_figure.py runs/readme

The run's own figures are put together, and nothing is drawn here.
"""

from __future__ import annotations

import argparse
from pathlib import Path

from PIL import Image


def main() -> None:
    """Put the learning curve and the levels that the students train on side by side."""
    parser = argparse.ArgumentParser(description="Draw the README's figure from a run folder.")
    parser.add_argument("run", type=Path)
    parser.add_argument("--out", type=Path, default=Path("docs/demo.png"))
    options = parser.parse_args()
    names = ("held_out-solve_rate.png", "levels.png")
    curve, levels = (Image.open(options.run / "plots" / name).convert("RGB") for name in names)
    height = levels.height
    curve = curve.resize((round(curve.width * height / curve.height), height), Image.Resampling.LANCZOS)
    sheet = Image.new("RGB", (curve.width + levels.width, height), "white")
    sheet.paste(curve, (0, 0))
    sheet.paste(levels, (curve.width, 0))
    options.out.parent.mkdir(parents=True, exist_ok=True)
    sheet.quantize(64).save(options.out, optimize=True)
    print(options.out)


if __name__ == "__main__":
    main()
