from __future__ import annotations

from neverslower.counted import counted


def test_a_number_agrees_with_its_noun() -> None:
    assert counted(1, "pair") == "1 pair"
    assert [counted(number, "pass", "passes") for number in (0, 1, 2)] == ["0 passes", "1 pass", "2 passes"]
    assert counted(11_241, "channel count") == "11,241 channel counts"
