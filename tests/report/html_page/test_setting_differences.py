"""Settings that differ between runs."""

from pathlib import Path

from ssl_zoo.report.html_page.setting_differences import setting_differences
from tests.report.html_page.test_curves import shown


def test_only_settings_that_define_the_weights_are_listed(tmp_path: Path) -> None:
    one, other = shown(tmp_path), shown(tmp_path, name="b")
    other.settings["optimizer"]["lr"] = 0.7
    other.settings["num_workers"] = 9
    other.settings["augmentation"]["crops"][0]["count"] = 3
    (crops, lr) = sorted(setting_differences([one, other]), key=lambda row: row.setting)
    assert (crops.setting, crops.values[1]) == ("augmentation.crops.0.count", "3")
    assert (lr.setting, lr.values[1]) == ("optimizer.lr", "0.7")


def test_a_setting_that_a_run_lacks_is_empty(tmp_path: Path) -> None:
    one, other = shown(tmp_path), shown(tmp_path, name="b")
    other.settings["of_the_future"] = None
    (row,) = setting_differences([one, other])
    assert (row.setting, row.values) == ("of_the_future", ("", "null"))
