"""The verdict: its name, its reasons in words and what it says to try."""

import pytest

from latent.measures import Estimate, judge

MUCH, NONE = Estimate(5, 4.9, 5.1), Estimate(0.01, -0.01, 0.03)
ALL_UNITS, NO_UNITS = Estimate(12, 11, 13), Estimate(0, 0, 0)
GAIN, NO_GAIN = Estimate(4, 3.8, 4.2), Estimate(0.0, -0.1, 0.1)


@pytest.mark.parametrize(
    ("mi", "units", "gain", "name", "advice"),
    [
        (MUCH, ALL_UNITS, GAIN, "used", ()),
        (NONE, NO_UNITS, NO_GAIN, "collapsed", ("free_bits", "word_dropout")),
        (NONE, ALL_UNITS, NO_GAIN, "collapsed", ("free_bits", "word_dropout")),
        (MUCH, ALL_UNITS, Estimate(0.1, -0.1, 0.3), "partly used", ("does not read",)),
        (Estimate(0.4, 0.3, 0.5), Estimate(1, 1, 1), Estimate(1.0, 0.8, 1.2), "partly used", ("too little",)),
        (NONE, NO_UNITS, GAIN, "partly used", ("measure more examples",)),
        (MUCH, NO_UNITS, GAIN, "partly used", ("no unit's mean",)),
    ],
)
def test_verdict(mi: Estimate, units: Estimate, gain: Estimate, name: str, advice: tuple[str, ...]) -> None:
    found = judge(mi, units, gain)
    assert found.name == name
    assert len(found.reasons) == 3
    assert len(found.advice) == len(advice)
    assert all(part in line for part, line in zip(advice, found.advice, strict=True))


def test_a_marginal_kl_above_the_information_is_advised_against_and_changes_no_name() -> None:
    aside = judge(MUCH, ALL_UNITS, GAIN, Estimate(9, 8.5, 9.5))
    assert aside.name == "used"
    assert "marginal KL 9.0 nats" in aside.advice[0]
    assert judge(MUCH, ALL_UNITS, GAIN, Estimate(3, 2.5, 3.5)).advice == ()
    assert judge(MUCH, ALL_UNITS, GAIN, Estimate(5.1, 4.5, 5.7)).advice == ()


def test_reasons_are_written_with_care() -> None:
    found = judge(Estimate(-0.001, -0.03, 0.03), Estimate(12, 11.5, 13), Estimate(-1, -2, 0))
    assert "MI 0.00, 95 % interval −0.03 to 0.03" in found.reasons[0]
    assert "active units 12, 95 % interval 11.5 to 13" in found.reasons[1]
    assert "shuffled-z gain −1.00, 95 % interval −2.00 to 0.00" in found.reasons[2]
