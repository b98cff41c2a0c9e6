"""Plots a run's losses and scores over its steps."""

from collections.abc import Mapping, Sequence
from pathlib import Path

from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator


def plot_curves(lines: Sequence[Mapping[str, float]], path: Path) -> None:
    """Write the curves as a PNG to `path`.

    lines: "step", and numbers by name. A score may be missing in some lines. Names that begin with "loss" are plotted
    on the left. All other names are scores from 0 to 1, higher is better, and are plotted on the right.
    """
    figure = Figure(figsize=(10, 4))
    left, right = figure.subplots(
        1, 2, gridspec_kw={"left": 0.06, "right": 0.98, "bottom": 0.13, "wspace": 0.15}
    )
    names = list(dict.fromkeys(name for line in lines for name in line if name != "step"))
    for name in names:
        having = [line for line in lines if name in line]
        axes = left if name.startswith("loss") else right
        label = name.removeprefix("loss").strip("_ ").replace("_", " ") or "loss"
        axes.plot([line["step"] for line in having], [line[name] for line in having], ".-", label=label)
    for axes, title in ((left, "loss"), (right, "score")):
        axes.set(title=title, xlabel="step")
        axes.xaxis.set_major_locator(MaxNLocator(integer=True))
        axes.grid(alpha=0.3)
        if axes.lines:
            axes.legend()
    left.set_ylim(bottom=0)
    right.set_ylim(0, 1)
    FigureCanvasAgg(figure).print_png(path)
