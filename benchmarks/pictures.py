"""The pictures of the documentation, drawn from what was measured and nothing else."""

from pathlib import Path
from typing import Any

import matplotlib as mpl

mpl.use("svg")

from matplotlib import pyplot as plt

from . import pages

OURS, THEIRS, INK = "#1f7a5c", "#b5483a", "#727a85"

mpl.rcParams |= {
    "svg.hashsalt": "kopf-finalizers",  # the same figures make the same file
    "font.size": 10,
    "text.color": INK,
    "axes.edgecolor": INK,
    "axes.labelcolor": INK,
    "xtick.color": INK,
    "ytick.color": INK,
    "axes.spines.top": False,
    "axes.spines.right": False,
}


def draw(results: dict[str, Any], folder: Path) -> None:
    """Write all pictures into the folder."""
    for name, figure in [
        ("contention.svg", contention(results)),
        ("flapping.svg", flapping(results["flapping"])),
        ("watching.svg", watching(results["watching"])),
    ]:
        figure.savefig(folder / name, transparent=True, metadata={"Date": None})
        plt.close(figure)
        svg = (folder / name).read_text()
        (folder / name).write_text("\n".join(line.rstrip() for line in svg.splitlines()) + "\n")


def contention(results: dict[str, Any]) -> Any:
    """PATCH requests for each change, and the changes that were lost."""
    ways = results["contention"]
    how = results["how"]
    figure, axes = plt.subplots(figsize=(7.2, 2.9), layout="constrained")
    names = list(ways)[::-1]
    figures = [ways[name]["PATCH requests per change"] for name in names]
    colours = [OURS if "ours" in name else THEIRS for name in names]
    bars = axes.barh(names, figures, color=colours)
    labels = [
        f"{ways[name]['PATCH requests per change']:.2f}"
        + (f", lost: {ways[name]['lost']:.0f}" if ways[name]["lost"] else ", none lost")
        for name in names
    ]
    axes.bar_label(bars, labels, padding=4, color=INK)
    axes.set_xlim(0, max(figures) * 1.3)
    axes.set_xlabel(
        f"PATCH requests per change; {how['owners']} owners, {how['rounds']} rounds,"
        " a writer beside them"
    )
    return figure


def flapping(stories: dict[str, Any]) -> Any:
    """Whether operator A's finalizer was on the object, over the time."""
    figure, every = plt.subplots(
        len(stories), 1, figsize=(7.2, 2.9), sharex=True, layout="constrained"
    )
    for axes, (name, story) in zip(every, stories.items(), strict=True):
        times = [time for time, _ in story["changes"]]
        there = [int(on) for _, on in story["changes"]]
        colour = OURS if story["cleanup ran"] else THEIRS
        axes.fill_between(times, there, step="post", color=colour, linewidth=0)
        axes.set_yticks([])
        axes.set_ylim(0, 1)
        axes.spines["left"].set_visible(False)
        ran = "the cleanup ran" if story["cleanup ran"] else "the cleanup never ran"
        axes.set_title(
            f"{name}: added {pages.times(story['added'])}, {story['writes']} writes, {ran}",
            loc="left",
            fontsize=10,
        )
    every[-1].set_xlabel("seconds; deleted at the end: coloured while the finalizer is there")
    return figure


def watching(story: dict[str, Any]) -> Any:
    """The series of an operator, as a dashboard shows them."""
    samples = story["samples"]
    times = [one["seconds"] for one in samples]
    figure, every = plt.subplots(2, 2, figsize=(7.2, 4.2), sharex=True, layout="constrained")
    panels = {
        "objects held": "held",
        "seconds since the oldest deletion": "oldest",
        "attempts that failed, per second": "failed",
        "attempts that succeeded, per second": "succeeded",
    }
    for axes, (title, name) in zip(every.flat, panels.items(), strict=True):
        away = [one["seconds"] for one in samples if one["away"]]
        axes.axvspan(away[0], away[-1], color=INK, alpha=0.12, linewidth=0)
        for purpose, colour in {"backups": THEIRS, "dns": OURS}.items():
            figures = [one[purpose][name] for one in samples]
            if name in ("failed", "succeeded"):
                figures = _rates(times, figures, over=3.0)
            axes.plot(times, figures, color=colour, label=purpose)
        axes.set_title(title, loc="left", fontsize=10)
        axes.set_ylim(bottom=0)
    every[0, 0].legend(frameon=False)
    for axes in every[1]:
        axes.set_xlabel("seconds; grey: the store is away")
    return figure


def _rates(times: list[float], counts: list[float], *, over: float) -> list[float]:
    """How fast a counter grows, over so many seconds before each point, as rate() has it."""
    rates = list[float]()
    for index, now in enumerate(times):
        first = next(place for place, then in enumerate(times) if then >= now - over)
        passed = now - times[first]
        rates.append((counts[index] - counts[first]) / passed if passed else 0.0)
    return rates
