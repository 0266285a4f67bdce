"""Draws what a soak (tests/main/lab_soak.rs) has written: FOLDER/soak.png of FOLDER/processes.csv and FOLDER/latencies.csv."""

import csv
import pathlib
import sys

import matplotlib

matplotlib.use("Agg")
from matplotlib import pyplot  # noqa: E402

folder = pathlib.Path(sys.argv[1])


def columns(file, key):
    found = {}
    with open(folder / file) as lines:
        for row in csv.DictReader(lines):
            found.setdefault(row[key], []).append(row)
    return sorted(found.items())


def draw(axes, rows, name, value, unit=1.0, **style):
    rows = [row for row in rows if row[value]]
    axes.plot([int(r["seconds"]) / 60 for r in rows], [float(r[value]) / unit for r in rows], label=name, linewidth=1, **style)


figure, all_axes = pyplot.subplots(5, 1, figsize=(12, 20), sharex=True)
for axes, (value, title, unit) in zip(
    all_axes, [("memory", "anonymous memory, MiB", 1 << 20), ("descriptors", "descriptors", 1), ("disk", "disk, MiB", 1 << 20)]
):
    for name, rows in columns("processes.csv", "process"):
        draw(axes, rows, name, value, unit)
    axes.set_title(title)
for name, rows in columns("latencies.csv", "what"):
    draw(all_axes[3], rows, f"{name}, p50", "p50", 1e-3)
    draw(all_axes[3], rows, f"{name}, p99", "p99", 1e-3, linestyle=":")
    draw(all_axes[4], rows, name, "failed")
all_axes[3].set_title("latency of good answers, ms")
all_axes[3].set_yscale("log")
all_axes[4].set_title("failed in 10 s")
all_axes[4].set_xlabel("minutes")
for axes in all_axes:
    axes.set_ylim(bottom=None if axes is all_axes[3] else 0)
    axes.legend(fontsize=8, ncols=3)
    axes.grid(alpha=0.3)
figure.tight_layout()
figure.savefig(folder / "soak.png", dpi=80)
