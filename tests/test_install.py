import ast
import json
import re
import tomllib
from importlib.metadata import packages_distributions

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name
from setuptools import Distribution

from cifake_utils import CifakeError, needs, profiles

PACKAGE = profiles.PROJECT / "cifake_utils"
PYPROJECT = tomllib.loads((profiles.PROJECT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
EXTRAS = PYPROJECT["optional-dependencies"]


def named(requirements) -> dict[str, Requirement]:
    return {canonicalize_name(found.name): found for found in map(Requirement, requirements)}


def imports(node: ast.AST, inside_needs: bool = False):
    """Yield (module, whether it stands in ``with needs``) of all imports below a node."""
    if isinstance(node, ast.Import):
        yield from ((alias.name.split(".")[0], inside_needs) for alias in node.names)
    elif isinstance(node, ast.ImportFrom) and not node.level:
        yield node.module.split(".")[0], inside_needs
    inside_needs = inside_needs or (isinstance(node, ast.With) and "needs(" in ast.unparse(node.items[0]))
    for child in ast.iter_child_nodes(node):
        yield from imports(child, inside_needs)


def test_the_package_needs_what_it_imports_and_nothing_else():
    distributions = packages_distributions() | {"kagglehub": []}  # asked for by a sentence, where someone wants it
    needed, lessons = set(), set()
    for path in PACKAGE.glob("**/*.py"):
        for module, inside_needs in imports(ast.parse(path.read_text(encoding="utf-8"))):
            found = {canonicalize_name(name) for name in distributions.get(module, ())} - {"cifake-utils"}
            (lessons if inside_needs else needed).update(found)
    assert needed == set(named(PYPROJECT["dependencies"]))
    assert lessons == set(named(EXTRAS["lessons"]))


def test_every_file_of_the_package_is_in_the_wheel(monkeypatch):
    monkeypatch.chdir(profiles.PROJECT)
    distribution = Distribution({"script_name": "setup.py"})
    distribution.parse_config_files()
    command = distribution.get_command_obj("build_py")
    command.ensure_finalized()
    modules = {source for _, _, source in command.find_all_modules()}
    data = {f"{source}/{name}" for _, source, _, names in command.data_files for name in names}
    packed = {profiles.PROJECT / path for path in modules | data}
    assert packed == {path for path in PACKAGE.glob("**/*") if path.is_file() and "__pycache__" not in path.parts}


def test_constraints_pin_every_dependency_within_its_bounds():
    text = (profiles.PROJECT / "constraints.txt").read_text(encoding="utf-8")
    pins = named(line for line in text.splitlines() if not line.startswith("#"))
    for name, requirement in named([*PYPROJECT["dependencies"], *EXTRAS["lessons"], *EXTRAS["tests"]]).items():
        (pin,) = pins[name].specifier
        assert pin.operator == "==" and pin.version in requirement.specifier, f"{pins[name]}, {requirement}"
        assert pins[name].marker is None  # one version for every system and Python
    assert "//" not in text


def test_both_commands_of_the_readme_take_the_pinned_versions():
    readme = (profiles.PROJECT / "README.md").read_text(encoding="utf-8")
    assert len(re.findall(r"^python3 .* -r requirements.txt -c constraints.txt && .*$", readme, re.M)) == 2


def test_codespaces_and_binder_install_what_the_project_says():
    readme = (profiles.PROJECT / "README.md").read_text(encoding="utf-8")
    container = json.loads((profiles.PROJECT / ".devcontainer" / "devcontainer.json").read_text(encoding="utf-8"))
    assert f"\n{container['postCreateCommand']} && " in readme
    environment = (profiles.PROJECT / "binder" / "environment.yml").read_text(encoding="utf-8")
    needed = named(PYPROJECT["dependencies"])
    for conda, name in (("pytorch-cpu", "torch"), ("torchvision", "torchvision")):
        assert f"  - {conda}{needed[name].specifier}\n" in environment


def test_a_missing_package_is_named_with_its_extra():
    with pytest.raises(CifakeError, match=r"no_such_package is not installed.*'lessons'.*cifake-utils\[lessons\]"):
        with needs("lessons"):
            import no_such_package  # noqa: F401
