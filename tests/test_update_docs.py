"""Tests of benchmarks/update_docs.py."""

import importlib.util
import pathlib
import re

import pytest

_ROOT = pathlib.Path(__file__).parents[1]
_PLACE = _ROOT / "benchmarks" / "update_docs.py"


@pytest.fixture(scope="module")
def update_docs():
  spec = importlib.util.spec_from_file_location("update_docs", _PLACE)
  assert spec and spec.loader
  module = importlib.util.module_from_spec(spec)
  spec.loader.exec_module(module)
  return module


def test_blocks_are_filled_and_the_rest_stays(update_docs):
  page = (
    "one\n<!-- demo: a -->\n<!-- end -->\ntwo\n"
    "<!-- demo: b -->\nold\nlines\n<!-- end -->\nthree\n"
  )
  filled = update_docs.filled(page, {"a": "A", "b": "B"})
  assert filled == (
    "one\n<!-- demo: a -->\nA\n<!-- end -->\ntwo\n"
    "<!-- demo: b -->\nB\n<!-- end -->\nthree\n"
  )
  assert update_docs.filled(filled, {"a": "A", "b": "B"}) == filled
  with pytest.raises(KeyError, match="b"):
    update_docs.filled(page, {"a": "A"})


def test_the_pages_blocks_hold_what_a_run_measured(update_docs):
  for page in update_docs._PAGES:
    text = (_ROOT / page).read_text(encoding="utf-8")
    found = re.findall(r"<!-- demo: \w+ -->\n(.*?)<!-- end -->", text, re.S)
    assert found and all(block.strip() for block in found), page
    assert not re.search(r"@[A-Z]+@", text), page
