"""The verdict on a latent variable, from three measures together and never from the KL alone."""

from dataclasses import dataclass
from typing import Literal

from latent.measures.intervals import Estimate

INFORMATIVE_NATS = 0.5  # of mutual information; a collapsed posterior has 0 up to the estimator's error
HEEDED_NATS = 0.1  # of shuffled-z gain
OFF_PRIOR_NATS = 1.0  # of marginal KL, from where on draws of the prior are not what the decoder was trained on

REVIVE = (
    "z is not used: warm the KL weight up more slowly (objective.kl_weight of kind linear or cyclical) or hold each "
    "dimension's KL up (objective.free_bits=0.25)",
    "weaken what the decoder knows without z: for text, raise model.word_dropout or shrink the decoder",
)
READ = (
    "the decoder does not read what z says: weaken what it knows without z (for text, raise model.word_dropout or "
    "shrink the decoder)"
)
INFORM = "z tells too little: raise objective.free_bits or lower the KL weight"
ACTIVATE = "no unit's mean varies clearly: raise objective.free_bits, or measure more examples"
DISAGREE = "the decoder heeds z, yet MI is small: measure more examples, then lower the KL weight"
ON_PRIOR = (
    "the posteriors together lie off the prior (marginal KL {kl:.1f} nats), so samples from the prior will be poorer "
    "than reconstructions: lower objective.free_bits or raise the KL weight"
)


@dataclass(frozen=True)
class Verdict:
    """`collapsed`, `partly used` or `used`, or that there is no z; the reasons in words, and what to try next."""

    name: Literal["collapsed", "partly used", "used", "absent"]
    reasons: tuple[str, ...]
    advice: tuple[str, ...]


WITHOUT_Z = Verdict(
    "absent",
    ("the model has no latent variable: there is nothing to be used or ignored, and its NLL is exact",),
    (),
)


def judge(
    mutual_information: Estimate,
    active_units: Estimate,
    shuffled_gain: Estimate,
    marginal_kl: Estimate | None = None,
) -> Verdict:
    """Say whether z is used, and what to try.

    Three questions: does z tell the examples apart (the interval of MI above 0.5 nats), is any unit active (the
    interval of the count above 0), does the decoder heed it (the interval of the shuffled-z gain above 0.1 nats)?
    *Used* needs yes three times; *collapsed* is no to the first and the last, since an active unit that neither tells
    examples apart nor is heeded is of no use; all else is *partly used*. The marginal KL does not enter the name: where
    it is clearly above MI and above 1 nat, most of the KL says nothing of x, and the advice says so.
    """
    informative = mutual_information.low > INFORMATIVE_NATS
    active = active_units.low > 0
    heeded = shuffled_gain.low > HEEDED_NATS
    reasons = (
        _reason(informative, "z tells the examples apart", "MI", mutual_information, 2, f"{INFORMATIVE_NATS} nats"),
        _reason(active, "some latent units are active", "active units", active_units, 1, "0"),
        _reason(heeded, "the decoder heeds z", "shuffled-z gain", shuffled_gain, 2, f"{HEEDED_NATS} nats"),
    )
    advice = _advice(informative, active, heeded)
    if marginal_kl is not None and marginal_kl.low > max(OFF_PRIOR_NATS, mutual_information.high):
        advice += (ON_PRIOR.format(kl=marginal_kl.value),)
    if informative and active and heeded:
        return Verdict("used", reasons, advice)
    if informative or heeded:
        return Verdict("partly used", reasons, advice)
    return Verdict("collapsed", reasons, advice)


def _advice(informative: bool, active: bool, heeded: bool) -> tuple[str, ...]:
    if not informative and not heeded:
        return REVIVE
    if not heeded:
        return (READ,)
    if not informative:
        return (INFORM,) if active else (DISAGREE,)
    return () if active else (ACTIVATE,)


def _reason(holds: bool, claim: str, measure: str, found: Estimate, digits: int, threshold: str) -> str:
    value, low, high = (_shown(x, digits) for x in (found.value, found.low, found.high))
    return (
        f"{'yes' if holds else 'no'}: {claim} ({measure} {value}, 95 % interval {low} to {high}, "
        f"{'above' if holds else 'not clearly above'} {threshold})"
    )


def _shown(value: float, digits: int) -> str:
    """With a true minus sign, none before a zero, and a count's `.0` left out."""
    text = f"{value:z.{digits}f}".replace("-", "−")
    return text.removesuffix(".0") if digits == 1 else text
