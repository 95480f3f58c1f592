"""What rounding depends on, and how its changes are told."""

import torch

from ssl_zoo.runs.arithmetic import arithmetic, changes


def test_the_facts_of_this_process() -> None:
    found = arithmetic(torch.device("cpu"))
    assert found["number of threads"] == str(torch.get_num_threads())
    assert found["torch"] == torch.__version__
    assert found["device"] == "cpu"
    assert found["processor"].endswith(f"({torch.backends.cpu.get_cpu_capability()})")


def test_what_makes_views_is_a_fact() -> None:
    here = torch.device("cpu")
    assert "views by" not in arithmetic(here)
    assert arithmetic(here, views_by="torch")["views by"] == "torch"


def test_only_what_differs_is_reported() -> None:
    before = {"torch": "1", "device": "cpu"}
    assert changes(before, before) == ""
    assert changes(before, {"torch": "2", "device": "cpu"}) == "torch 1 before, 2 now"


def test_what_an_older_checkpoint_does_not_say_does_not_differ() -> None:
    assert changes({}, {"torch": "2"}) == ""
