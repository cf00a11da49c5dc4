"""Draws the plots, run by path with the Python of matplotlib's own environment: `plots_side.py FOLDER`.

The curves come on standard input. Imports nothing of this project.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path


def main(folder: Path) -> None:
    """One PNG for each."""
    import matplotlib as mpl

    mpl.use("agg")
    from matplotlib import pyplot as plt
    from matplotlib.ticker import ScalarFormatter

    folder.mkdir(parents=True, exist_ok=True)
    for each in json.load(sys.stdin):
        figure, axes = plt.subplots(figsize=(7, 4), dpi=120, layout="constrained")
        for name, points in each["lines"].items():
            axes.plot(*zip(*points, strict=True), label=name, marker="o" if len(points) < 20 else None, linewidth=1.2)
        if each["doubling"]:
            axes.set_xscale("log", base=2)
            axes.xaxis.set_major_formatter(ScalarFormatter())
        axes.set(title=each["title"], xlabel=each["x"], ylabel=each["y"])
        axes.set_ylim(bottom=0)
        axes.grid(alpha=0.3)
        axes.legend(frameon=False)
        figure.savefig(folder / f"{each['name']}.png", metadata={"Software": None})
        plt.close(figure)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
