"""Links of pages work on the site as they do in the repository."""

import pytest

from docs.site.links import MissingTarget, rewrite

REPOSITORY = "https://example.org/zoo"


def moved(text: str, page: str = "how/slurm.md") -> str:
    return rewrite(text, folder="docs/how", page=page, repository=REPOSITORY)


def test_a_link_to_another_page_stays() -> None:
    assert moved("[a](scoring.md#evaluators)") == "[a](scoring.md#evaluators)"
    assert moved("[a](../trouble/faults.md)") == "[a](../trouble/faults.md)"


def test_a_link_into_the_repository_leads_there() -> None:
    assert moved("[a](../../setup.cfg)") == f"[a]({REPOSITORY}/blob/main/setup.cfg)"
    assert moved("[a](../../tests/faults)") == f"[a]({REPOSITORY}/tree/main/tests/faults)"


def test_a_method_is_a_page_of_the_site() -> None:
    assert moved("[a](../../methods/swav)") == "[a](../methods/swav.md)"
    assert moved("[a](../../methods/swav/README.md#results)") == "[a](../methods/swav.md#results)"


def test_other_addresses_and_code_stay() -> None:
    text = "[a](https://arxiv.org) [b](#here)\n```text\n[c](../../nowhere)\n```\n"
    assert moved(text) == text


def test_a_link_to_nothing_is_named() -> None:
    with pytest.raises(MissingTarget, match=r"'\.\./\.\./nowhere\.py' in 'how/slurm\.md'"):
        moved("[a](../../nowhere.py)")
