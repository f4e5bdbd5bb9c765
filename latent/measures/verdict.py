"""The verdict on a latent variable, from three measures together and never from the KL alone."""

from dataclasses import dataclass
from typing import Literal

from latent.measures.intervals import Estimate

INFORMATIVE_NATS = 0.5  # of mutual information; a collapsed posterior has 0 up to the estimator's error
HEEDED_NATS = 0.1  # of shuffled-z gain


@dataclass(frozen=True)
class Verdict:
    """`collapsed`, `partly used` or `used`, and the reasons in words."""

    name: Literal["collapsed", "partly used", "used"]
    reasons: tuple[str, ...]


def judge(mutual_information: Estimate, active_units: Estimate, shuffled_gain: Estimate) -> Verdict:
    """Say whether z is used.

    Three questions: does z tell the sentences apart (the interval of MI above 0.5 nats), is any unit active (the
    interval of the count above 0), does the decoder heed it (the interval of the shuffled-z gain above 0.1 nats)?
    *Used* needs yes three times; *collapsed* is no to the first and the last, since an active unit that neither tells
    sentences apart nor is heeded is of no use; all else is *partly used*.
    """
    informative = mutual_information.low > INFORMATIVE_NATS
    active = active_units.low > 0
    heeded = shuffled_gain.low > HEEDED_NATS
    reasons = (
        _reason(informative, "z tells the examples apart", "MI", mutual_information, f"{INFORMATIVE_NATS} nats"),
        _reason(active, "some latent units are active", "active units", active_units, "0"),
        _reason(heeded, "the decoder heeds z", "shuffled-z gain", shuffled_gain, f"{HEEDED_NATS} nats"),
    )
    if informative and active and heeded:
        return Verdict("used", reasons)
    if informative or heeded:
        return Verdict("partly used", reasons)
    return Verdict("collapsed", reasons)


def _reason(holds: bool, claim: str, measure: str, found: Estimate, threshold: str) -> str:
    return (
        f"{'yes' if holds else 'no'}: {claim} ({measure} {found.value:.2f}, 95 % interval {found.low:.2f} to "
        f"{found.high:.2f}, {'above' if holds else 'not clearly above'} {threshold})"
    )
