import hashlib
from importlib import resources

VENDOR = resources.files("loadstair").joinpath("vendor")
ECHARTS_SHA256 = "b66b25aeb4df84e33199dc21694014d336d222cbd9deb0e5a7c14bd6aa0d0fd0"


def test_the_chart_library_is_the_one_its_readme_names() -> None:
    digest = hashlib.sha256(VENDOR.joinpath("echarts.min.js").read_bytes()).hexdigest()
    assert digest == ECHARTS_SHA256
    assert digest in VENDOR.joinpath("README.md").read_text(encoding="utf-8")


def test_its_licences_lie_beside_it() -> None:
    assert "Apache License" in VENDOR.joinpath("LICENSE-echarts").read_text(encoding="utf-8")
    assert "Apache ECharts" in VENDOR.joinpath("NOTICE.txt").read_text(encoding="utf-8")
    assert "Bostock" in VENDOR.joinpath("LICENSE-d3").read_text(encoding="utf-8")
