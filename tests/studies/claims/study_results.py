"""Fabricated results of studies, in the form that a run leaves."""

from sightline.encoders import KINDS

ACCURACY = {"name": "accuracy", "better": "higher", "percent": True}


def runs(
    study, scores, *, tests=None, buckets=None, constant=0.0, seeds=3, further=None, early=None, valid_constant=None
):
    """Results of a study whose encoders reach `scores`.

    `tests` and `buckets` are scores by encoder, `early` the scores when the slowest encoder stops.
    """
    results = {}
    for name, score in scores.items():
        for seed in range(seeds):
            ending = "rate0.003" if seed == 0 else f"seed{seed}"
            wobble = 0.001 * (seed - 1)
            results[f"{study}/{name.replace(',', '').replace(' ', '-')}-{ending}"] = {
                "name": name,
                "kind": name,
                "rate": 3e-3,
                "seed": seed,
                "valid": score,
                "measure": ACCURACY,
                "unit": "distance",
                "test": {
                    "accuracy": score + wobble,
                    **{f"accuracy@{b}": v + wobble for b, v in (buckets or {}).get(name, {}).items()},
                },
                "tests": {
                    t: {"refused": "too long"} if v is None else {"accuracy": v + wobble}
                    for t, v in (tests or {}).get(name, {}).items()
                },
                "parameters": 1000,
                "steps": 10,
                "tokens": 200 if early and name != "rnn" else 100,
                "constant": constant,
                "constant_valid": constant if valid_constant is None else valid_constant,
                "further": further or {},
                "milestones": [[100, 1.0, (early or scores)[name] + wobble], [200, 2.0, score + wobble]],
            }
    return results


def even(score, **others):
    return dict.fromkeys(KINDS, score) | {name.replace("_", "-"): value for name, value in others.items()}
