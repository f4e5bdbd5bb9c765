"""Alarms of a training: what the validation says of z, in one line, when it begins to hold."""

import math
from collections.abc import Mapping

UNDER_WEIGHT = 0.5  # below this KL weight a schedule is still warming up, and z is not yet judged
LITTLE_INFORMATION = 0.1  # nats of mutual information
LITTLE_GAIN = 0.05  # nats of shuffled-z gain
FAR_ABOVE = 4.0  # KL over mutual information, where the KL is at least a nat

ADVICE = {
    "no active unit": "objective.free_bits=0.25, a slower objective.kl_weight or a weaker decoder",
    "z does not tell the examples apart": "objective.free_bits=0.25 or a slower objective.kl_weight",
    "the decoder ignores z": "a weaker decoder: dropped inputs or fewer hidden units",
    "clusters have died": "a longer first stage (update.steps), a lower train.learning_rate or fewer clusters",
    "the posterior is far from the prior and yet says little": "a smaller objective.free_bits or a larger KL weight",
}

COLLAPSED = frozenset(list(ADVICE)[:3])  # what `train.on_collapse` acts on


def findings(validation: Mapping[str, float]) -> dict[str, str]:
    """What is wrong, and the figure behind it; nothing while the KL weight is below one half.

    `validation` holds active_units, mutual_information and its ceiling, shuffled_gain, kl and kl_weight, in nats per
    example; of a model with clusters also `cluster_margin`, the entropy of their use less ln K − 1.
    """
    kl, information = validation["kl"], validation["mutual_information"]
    gain = validation.get("shuffled_gain", math.inf)  # a split of one example has none
    if validation["kl_weight"] < UNDER_WEIGHT:
        return {}
    checks = {
        "no active unit": (validation["active_units"] == 0, f"KL weight {validation['kl_weight']:.2g}"),
        "z does not tell the examples apart": (information < LITTLE_INFORMATION, f"MI {information:.2f}"),
        "the decoder ignores z": (
            gain < LITTLE_GAIN,
            f"shuffled-z gain {gain:.2f}",
        ),
        "clusters have died": (
            validation.get("cluster_margin", math.inf) < 0,
            f"{-validation.get('cluster_margin', math.inf):.2f} nats below an entropy of ln K − 1",
        ),
        "the posterior is far from the prior and yet says little": (
            # near its ceiling, log N, the estimate of the mutual information says no more
            kl > max(1.0, FAR_ABOVE * information) and information < validation["mutual_information_ceiling"] - 1,
            f"KL {kl:.2f}, MI {information:.2f}",
        ),
    }
    return {name: figure for name, (holds, figure) in checks.items() if holds}


def alarm_line(step: int, found: Mapping[str, str]) -> str:
    """One line for what is wrong, with what to try."""
    what = ", ".join(f"{name} ({figure})" for name, figure in found.items())
    return f"step {step}: {what}; try {ADVICE[next(iter(found))]}"
