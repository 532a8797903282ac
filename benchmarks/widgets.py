"""Kernel time of one move of every slider in lesson 02, from the new value to the finished picture; writes JSON.

python benchmarks/widgets.py
"""

import json
import time
from pathlib import Path
from statistics import median

from cifake_utils import data, effects, fractal_widgets, models, profiles, records, weights


def redraws(box, moves: dict[str, list]) -> dict[str, float]:
    """Return the median milliseconds of setting each control, by its description, to each of the values in turn."""
    controls = {control.description: control for control in box.children if hasattr(control, "description")}
    result = {}
    for name, values in moves.items():
        times = []
        for value in values:
            start = time.perf_counter()
            controls[name].value = value
            times.append(1e3 * (time.perf_counter() - start))
        result[name] = round(median(times), 1)
    return result


def main() -> None:
    profile, cifake = profiles.active(), data.load()
    backbone = models.backbone(weights.load(profile)).eval()
    layers = effects.fitted_layers(backbone, cifake.train)
    explorer = fractal_widgets.box_counting_explorer()
    results = {"hardware": records.hardware(), "versions": records.versions()}
    results["explorer, a set"] = redraws(explorer, {"box size": list(range(1, 60))})
    explorer.children[0].value = fractal_widgets.PHOTOGRAPHS[0]
    results["explorer, a photograph"] = redraws(
        explorer, {"box size": list(range(1, 60)), "threshold": [step / 20 for step in range(1, 18)]}
    )
    results["which is rougher"] = redraws(fractal_widgets.which_is_rougher(), {"Hurst H": fractal_widgets.HURST})
    inside = fractal_widgets.inside_the_network(backbone, layers, cifake)
    thresholds = [step / 10 for step in range(-20, 20)]
    results["inside the network"] = redraws(
        inside, {"channel": list(range(1, 60)), "threshold": thresholds, "stage": ["layer1", "stem"]}
    )
    print(json.dumps(results, indent=1))
    path = Path(__file__).with_suffix(".json")
    path.write_text(json.dumps(results, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
