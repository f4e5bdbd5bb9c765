"""Alarms by the figures that raise them."""

import pytest

from latent.training.alarms import ADVICE, alarm_line, findings

WELL = {
    "active_units": 12.0,
    "mutual_information": 4.0,
    "mutual_information_ceiling": 7.6,
    "shuffled_gain": 5.0,
    "kl": 6.0,
    "kl_weight": 1.0,
}


def test_nothing_is_wrong_with_a_used_z_nor_during_the_warm_up() -> None:
    assert findings(WELL) == {}
    collapsed = {**WELL, "active_units": 0.0, "mutual_information": 0.0, "shuffled_gain": 0.0, "kl": 0.0}
    assert findings({**collapsed, "kl_weight": 0.49}) == {}
    assert len(findings({**collapsed, "kl_weight": 0.5})) == 3


def test_clusters_in_use_are_no_matter() -> None:
    assert findings({**WELL, "cluster_margin": 0.9}) == {}


def test_an_information_near_its_ceiling_is_not_called_little() -> None:
    saturated = {**WELL, "mutual_information": 5.29, "mutual_information_ceiling": 5.3, "kl": 24.0}
    assert findings(saturated) == {}


@pytest.mark.parametrize(
    ("change", "name"),
    [
        ({"active_units": 0.0}, "no active unit"),
        ({"mutual_information": 0.09, "kl": 0.2}, "z does not tell the examples apart"),
        ({"shuffled_gain": 0.04}, "the decoder ignores z"),
        ({"cluster_margin": -0.1}, "clusters have died"),
        ({"mutual_information": 1.0, "kl": 4.1}, "the posterior is far from the prior and yet says little"),
    ],
)
def test_each_figure_raises_its_own_alarm(change: dict[str, float], name: str) -> None:
    found = findings({**WELL, **change})
    assert list(found) == [name]
    assert ADVICE[name] in alarm_line(70, found)
    assert alarm_line(70, found).startswith("step 70: ")
