"""The structure of the package: who may import whom stands in pyproject.toml."""

from importlinter.cli import lint_imports


def test_imports_go_down(capsys):
    assert lint_imports(cache_dir=None) == 0, capsys.readouterr().out
