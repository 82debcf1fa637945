import re

from tests.explore.locust_ui import ROOT


def test_the_page_shows_the_example_as_it_is() -> None:
    example = (ROOT / "locustfiles" / "own_user.py").read_text()
    code = example.split('"""', 2)[2].strip()
    assert f"```python\n{code}\n```" in (ROOT / "docs" / "own-user.md").read_text()


def test_the_page_names_every_argument_of_the_events() -> None:
    page = (ROOT / "docs" / "own-user.md").read_text()
    source = (ROOT / "loadstair" / "explore" / "events.py").read_text()
    complete = source[source.index("def _complete") :]
    names = [line.split('"')[1] for line in complete.splitlines() if line.startswith('        "')]
    assert len(names) > 10
    assert [name for name in names if f"`{name}`" not in page] == []


def test_the_page_of_the_web_ui_explains_every_option() -> None:
    source = (ROOT / "loadstair" / "explore" / "options.py").read_text(encoding="utf-8")
    page = (ROOT / "docs" / "web-ui.md").read_text(encoding="utf-8")
    options = re.findall(r'add\(\s*"(--[a-z0-9-]+)"', source)
    assert len(options) > 10
    assert [option for option in options if f"`{option}" not in page] == []
