"""Builds the source archive and the wheel, without a network."""

import email
import os
import pathlib
import re
import shutil
import subprocess
import sys
import tarfile
import zipfile

import pytest

_ROOT = pathlib.Path(__file__).parents[1]


@pytest.fixture(scope="module")
def archives(tmp_path_factory):
  """(wheel, source archive) of a copy of the checkout."""
  pytest.importorskip("setuptools", minversion="77")
  folder = tmp_path_factory.mktemp("packaging")
  source = folder / "source"
  outputs = {"runs", "build", "dist"}  # gin/runs is none of them.

  def ignored(folder, names):
    top = {name for name in names if pathlib.Path(folder) == _ROOT} & outputs
    passing = shutil.ignore_patterns(".*", "__pycache__", "*.egg-info")
    return top | passing(folder, names)

  shutil.copytree(_ROOT, source, ignore=ignored)
  build = (
    "from setuptools import build_meta as b;"
    f"b.build_sdist({str(folder)!r}); b.build_wheel({str(folder)!r})"
  )
  done = subprocess.run(
    [sys.executable, "-c", build], cwd=source, capture_output=True, text=True
  )
  assert done.returncode == 0, done.stderr
  return next(folder.glob("*.whl")), next(folder.glob("*.tar.gz"))


@pytest.fixture(scope="module")
def installed(archives, tmp_path_factory):
  """A folder with the wheel's files, as an installation has them."""
  folder = tmp_path_factory.mktemp("installed")
  with zipfile.ZipFile(archives[0]) as wheel:
    wheel.extractall(folder)
  return folder


@pytest.fixture(scope="module")
def metadata(installed):
  (path,) = installed.glob("*.dist-info/METADATA")
  return email.message_from_string(path.read_text(encoding="utf-8"))


def _checkout_files():
  """Files that a wheel has to carry: path in the package -> in the checkout."""
  moved = {"gin": "*.gin", "tasks": "*.py"}
  for folder, pattern in moved.items():
    for path in (_ROOT / folder).rglob(pattern):
      yield f"mathft_jax/{path.relative_to(_ROOT).as_posix()}", path
  for path in (_ROOT / "mathft_jax").rglob("*"):
    if path.is_file() and "__pycache__" not in path.parts:
      yield path.relative_to(_ROOT).as_posix(), path


def test_the_wheel_carries_every_file_of_the_package(installed):
  expected = dict(_checkout_files())
  assert {"mathft_jax/tasks/arithmetic.py"} <= set(expected)
  packed = {
    path.relative_to(installed).as_posix(): path
    for path in (installed / "mathft_jax").rglob("*")
    if path.is_file()
  }
  assert set(packed) == set(expected)
  for name, path in packed.items():
    assert path.read_bytes() == expected[name].read_bytes()


def test_the_wheel_installs_one_package_and_the_command(installed):
  names = {path.name for path in installed.iterdir()}
  assert names == {"mathft_jax", next(n for n in names if "dist-info" in n)}
  (entry_points,) = installed.glob("*.dist-info/entry_points.txt")
  assert "mathft = mathft_jax.cli.main:main" in entry_points.read_text()


def test_the_source_archive_carries_gin_files_tasks_and_the_licence(archives):
  with tarfile.open(archives[1]) as archive:
    names = {name.partition("/")[2] for name in archive.getnames()}
  expected = {"LICENSE", "CHANGELOG.md", "Makefile", "setup.py"}
  for folder, pattern in (("gin", "*.gin"), ("tasks", "*.py")):
    for path in (_ROOT / folder).rglob(pattern):
      expected.add(path.relative_to(_ROOT).as_posix())
  assert not expected - names


def test_the_installed_package_works_from_another_folder(installed, tmp_path):
  program = (
    "import pathlib, gin, mathft_jax\n"
    "from mathft_jax.cli import gin_flags\n"
    "import mathft_jax.tasks\n"
    "print(mathft_jax.__file__, mathft_jax.tasks.__file__,"
    " gin_flags.gin_dir(), sep='\\n')\n"
  )
  done = subprocess.run(
    [sys.executable, "-c", program],
    capture_output=True,
    text=True,
    cwd=tmp_path,
    env=os.environ | {"PYTHONPATH": str(installed)},
  )
  assert done.returncode == 0, done.stderr
  places = [pathlib.Path(line) for line in done.stdout.splitlines()]
  assert places == [
    installed / "mathft_jax" / "__init__.py",
    installed / "mathft_jax" / "tasks" / "__init__.py",
    installed / "mathft_jax" / "gin",
  ]


def test_the_docs_give_the_bounds_of_every_dependency(metadata):
  text = (_ROOT / "docs" / "install.md").read_text(encoding="utf-8")
  table = dict(re.findall(r"^\| ([\w-]+) \| (>=\S+) \| \S+ \|$", text, re.M))
  bounds = {}
  for requirement in metadata.get_all("Requires-Dist"):
    if "extra ==" not in requirement:
      name, bound = re.fullmatch(r"([\w-]+)(.*)", requirement).groups()
      # The order of a bound's parts is the build tool's.
      bounds[name] = set(bound.replace(" ", "").split(","))
  assert {name: set(b.split(",")) for name, b in table.items()} == bounds


def test_the_changelog_begins_with_this_version(metadata):
  text = (_ROOT / "CHANGELOG.md").read_text(encoding="utf-8")
  (version, *_) = re.findall(r"^## \[(.*?)\]", text, re.M)
  assert version == metadata["Version"]
