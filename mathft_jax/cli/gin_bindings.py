"""Reads gin files and flags into bindings whose names are all resolved.

gin finds a wrong name late or never, and says so over many lines. This module
reads the same text with gin's own parser first, follows the includes, resolves
each name, and raises ConfigError with file and line. docs/config.md gives the
rules.
"""

import collections
import dataclasses
import importlib
import inspect
import pathlib
import pkgutil
import re
import tokenize
import types
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

from gin import config_parser

from mathft_jax.cli import errors

# What `NAME = %gin.REQUIRED` refers to.
REQUIRED = "%gin.REQUIRED"
_DYNAMIC_REGISTRATION = "__gin__.dynamic_registration"


@dataclasses.dataclass(frozen=True)
class Use:
  """A macro (`%NAME`) or a reference (`@scope/name`) inside a value.

  `target` is the function or class, None for a macro. `is_call` is whether
  gin calls it, which `()` and `%` ask for.
  """

  name: str
  scope: str = ""
  target: Any = None
  is_call: bool = True


@dataclasses.dataclass(frozen=True)
class Binding:
  """One `scope/target.name = value`, or a macro where `target` is None.

  `where` is "file:line", or the flag. The name of a macro includes its scope.
  """

  where: str
  scope: str
  target: Any
  name: str
  label: str
  uses: tuple[Use, ...]
  is_required: bool
  is_flag: bool


@dataclasses.dataclass
class Reading:
  """What was read: `bindings` in order, and what gin has to be given.

  `texts` are pairs of a file's name and its text without include statements,
  included files first. `modules` maps each function or class that only flags
  name to the module path under which gin has to know it.
  """

  bindings: list[Binding] = dataclasses.field(default_factory=list)
  texts: list[tuple[str, str]] = dataclasses.field(default_factory=list)
  modules: dict[Any, str] = dataclasses.field(default_factory=dict)


def read(
  files: Sequence[str],
  flags: Sequence[str],
  search_paths: Sequence[pathlib.Path],
  entry_points: Sequence[Callable[..., Any]] = (),
) -> Reading:
  """Reads gin files, then `NAME=VALUE` flags; imports what the files import.

  Raises ConfigError for a missing file, bad syntax, an unknown name, and an
  include that stands below a binding.
  """
  reader = _Reader(search_paths, entry_points)
  for name in files:
    reader.read_file(name, asked_by="--gin_file")
  for flag in flags:
    reader.read_flag(flag)
  return reader.reading


def find_file(name: str, search_paths: Sequence[pathlib.Path]) -> pathlib.Path:
  """Returns the first file of that name in the search paths.

  Raises FileNotFoundError with the search paths and the nearest name there.
  """
  for folder in search_paths:
    path = folder / name  # An absolute name stays as it is.
    if path.is_file():
      return path
  present = {
    path.relative_to(folder).as_posix()
    for folder in search_paths
    # The current folder may hold anything, a whole home directory even.
    for path in folder.glob("**/*.gin" if folder.parts else "*.gin")
  }
  places = ", ".join(str(folder) for folder in search_paths)
  raise FileNotFoundError(
    f"no gin file {name!r} in {places}{errors.did_you_mean(name, present)};"
    " --gin_search_paths adds folders"
  )


class _Delegate(config_parser.ParserDelegate):
  """Keeps references as they are written, for `_Reader` to resolve."""

  def configurable_reference(
    self, scoped_configurable_name: str, evaluate: bool
  ) -> Use:
    scope, _, name = scoped_configurable_name.rpartition("/")
    return Use(name=name, scope=scope, is_call=evaluate)

  def macro(self, macro_name: str) -> Use:
    # No scope: a macro is looked up by its whole name.
    return Use(name=f"%{macro_name}")


class _Reader:
  """Follows files and flags in gin's order, collecting a Reading."""

  def __init__(
    self,
    search_paths: Sequence[pathlib.Path],
    entry_points: Sequence[Callable[..., Any]],
  ):
    self.reading = Reading()
    self._search_paths = search_paths
    self._open_files: list[pathlib.Path] = []
    # Bound name -> import statements of all files; flags may use any of them.
    self._imports: dict[str, dict[str, types.ModuleType]] = (
      collections.defaultdict(dict)
    )
    # Every function and class that gin will know, by its full dotted name.
    self._known: dict[str, Any] = {
      f"{f.__module__}.{f.__qualname__}": f for f in entry_points
    }

  def read_file(self, name: str, asked_by: str) -> None:
    try:
      path = find_file(name, self._search_paths)
    except FileNotFoundError as error:
      raise errors.ConfigError(f"{asked_by}: {error}") from None
    if path in self._open_files:
      raise errors.ConfigError(f"{asked_by}: {name!r} includes itself")
    self._open_files.append(path)
    text = path.read_text(encoding="utf-8")
    lines = text.splitlines(keepends=True)
    symbols: dict[str, tuple[types.ModuleType, str]] | None = None
    bound_at = ""
    for statement in _statements(text, str(path)):
      where = f"{path}:{statement.location.line_num}"
      if isinstance(statement, config_parser.ImportStatement):
        if statement.module == _DYNAMIC_REGISTRATION:
          symbols = {}
          continue
        module = _import(statement, where)
        symbol = statement.bound_name()
        if symbols is not None:
          symbols[symbol] = (module, statement.partial_path())
        self._imports[symbol][statement.partial_path()] = module
      elif isinstance(statement, config_parser.IncludeStatement):
        if bound_at:
          raise errors.ConfigError(
            f"{where}: includes stand above bindings, or the included file"
            f" would override {bound_at}; move the include up"
          )
        self.read_file(statement.filename, asked_by=where)
        lines[statement.location.line_num - 1] = "\n"
      elif isinstance(statement, config_parser.BindingStatement):
        bound_at = bound_at or where

        def resolve(
          selector: str, symbols: Any = symbols, where: str = where
        ) -> Any:
          return self._resolve_in_file(selector, symbols, where)

        self._bind(statement, where, resolve, is_flag=False)
      elif isinstance(statement, config_parser.BlockDeclaration):
        bound_at = bound_at or where
    self.reading.texts.append((str(path), "".join(lines)))
    self._open_files.pop()

  def read_flag(self, flag: str) -> None:
    name, _, value = flag.partition("=")
    where = f"--gin.{name.strip()}"
    try:
      statements = list(_statements(flag, ""))
    except errors.ConfigError:
      statements = []
    if len(statements) != 1 or not isinstance(
      statements[0], config_parser.BindingStatement
    ):
      hint = ""
      if re.fullmatch(r"[\w./:~-]+", value.strip()):
        hint = f"; a string needs quotes of its own: {where}='\"{value}\"'"
      raise errors.ConfigError(f"{where}: cannot read the value {value}{hint}")

    def resolve(selector: str) -> Any:
      return self._resolve_in_flag(selector, where)

    self._bind(statements[0], where, resolve, is_flag=True)

  def _bind(
    self,
    statement: config_parser.BindingStatement,
    where: str,
    resolve: Callable[[str], Any],
    is_flag: bool,
  ) -> None:
    scope, selector, name = (
      statement.scope,
      statement.selector,
      statement.arg_name,
    )
    prefix = f"{scope}/" if scope else ""
    target = None
    if name:
      label = f"{prefix}{selector}.{name}"
      target = resolve(selector)
      _check_parameter(target, selector, name, where)
    else:
      label = name = f"{prefix}{selector}"
      scope = ""
    uses = list(_uses(statement.value))
    self.reading.bindings.append(
      Binding(
        where=where,
        scope=scope,
        target=target,
        name=name,
        label=label,
        uses=tuple(
          use
          if use.name.startswith("%")
          else dataclasses.replace(use, target=resolve(use.name))
          for use in uses
        ),
        is_required=any(use.name == REQUIRED for use in uses),
        is_flag=is_flag,
      )
    )

  def _resolve_in_file(
    self,
    selector: str,
    symbols: Mapping[str, tuple[types.ModuleType, str]] | None,
    where: str,
  ) -> Any:
    if symbols is None:
      raise errors.ConfigError(
        f"{where}: a file that names {selector!r} has to begin with"
        " `from __gin__ import dynamic_registration` and import its module"
      )
    symbol, *names = selector.split(".")
    if symbol not in symbols:
      raise errors.ConfigError(
        f"{where}: {symbol!r} of {selector!r} is not imported in this file"
        f"{errors.did_you_mean(symbol, symbols)}"
      )
    module, path = symbols[symbol]
    target = _attribute(module, names, selector, where)
    self._known[".".join([path, *names])] = target
    return target

  def _resolve_in_flag(self, selector: str, where: str) -> Any:
    """Finds what a file named already, else through a file's import."""
    matches = {
      name: target
      for name, target in self._known.items()
      if f".{name}".endswith(f".{selector}")
    }
    symbol, *names = selector.split(".")
    if not matches:
      for path, module in self._imports.get(symbol, {}).items():
        target = _attribute(module, names, selector, where)
        matches[".".join([path, *names])] = target
        self.reading.modules[target] = ".".join([path, *names[:-1]])
    if not matches:
      options = {".".join(name.split(".")[-2:]) for name in self._known}
      raise errors.ConfigError(
        f"{where}: no gin file of this run imports or names {selector!r}"
        f"{errors.did_you_mean(selector, options | set(self._imports))}"
      )
    if len({id(target) for target in matches.values()}) > 1:
      raise errors.ConfigError(
        f"{where}: {selector!r} may be {' or '.join(sorted(matches))};"
        " write more of its name"
      )
    self._known.update(matches)
    return next(iter(matches.values()))


def _statements(text: str, filename: str) -> Iterator[Any]:
  """Yields gin's statements; raises ConfigError with the line of an error."""
  where = filename or "flag"
  try:
    yield from config_parser.ConfigParser(
      NamedText(text, filename), _Delegate()
    )
  except SyntaxError as error:
    message = " ".join(str(error.msg).split())
    line = (error.text or "").strip()
    raise errors.ConfigError(
      f"{where}:{error.lineno}: {message}: {line}"
    ) from None
  except tokenize.TokenError as error:
    message, (line_number, _) = error.args
    raise errors.ConfigError(f"{where}:{line_number}: {message}") from None


class NamedText:
  """Text that gin's parser reads like a file of that name."""

  def __init__(self, text: str, name: str):
    self._lines = iter(text.splitlines(keepends=True))
    self.name = name

  def readline(self) -> str:
    return next(self._lines, "")


def _import(
  statement: config_parser.ImportStatement, where: str
) -> types.ModuleType:
  """Imports as gin does: `import a.b` alone binds `a`."""
  try:
    module = importlib.import_module(statement.module)
  except ImportError as error:
    parent, _, name = statement.module.rpartition(".")
    siblings: set[str] = set()
    if error.name == statement.module and parent:
      paths = getattr(importlib.import_module(parent), "__path__", [])
      siblings = {module.name for module in pkgutil.iter_modules(paths)}
    raise errors.ConfigError(
      f"{where}: {error}{errors.did_you_mean(name, siblings)}"
    ) from error
  if statement.is_from or statement.alias:
    return module
  return importlib.import_module(statement.module.partition(".")[0])


def _attribute(
  module: types.ModuleType, names: Sequence[str], selector: str, where: str
) -> Any:
  target: Any = module
  for name in names:
    if not hasattr(target, name):
      options = (option for option in dir(target) if option[:1] != "_")
      raise errors.ConfigError(
        f"{where}: {target.__name__} has no {name!r} (in {selector!r})"
        f"{errors.did_you_mean(name, options)}"
      )
    owner, target = target, getattr(target, name)
    if inspect.isclass(owner) and inspect.isfunction(target):
      raise errors.ConfigError(
        f"{where}: {selector!r} is a method; gin would replace its class by one"
        " that cannot be compared or pickled: bind a field of the class instead"
      )
  if not callable(target):
    raise errors.ConfigError(f"{where}: {selector!r} is no function or class")
  return target


def _check_parameter(target: Any, selector: str, name: str, where: str) -> None:
  known = parameters(target)
  if name in known or any(p.kind is p.VAR_KEYWORD for p in known.values()):
    return
  raise errors.ConfigError(
    f"{where}: {selector!r} has no parameter {name!r}"
    f"{errors.did_you_mean(name, known)}"
    f" (it has: {', '.join(known) or 'none'})"
  )


def parameters(target: Any) -> Mapping[str, inspect.Parameter]:
  """Returns the parameters of a function or class, by name."""
  try:
    return inspect.signature(target).parameters
  except ValueError:  # A builtin without a signature: gin cannot bind it.
    return {}


def _uses(value: Any) -> Iterator[Use]:
  if isinstance(value, Use):
    yield value
  elif isinstance(value, Mapping):
    for key, item in value.items():
      yield from _uses(key)
      yield from _uses(item)
  elif isinstance(value, list | tuple):
    for item in value:
      yield from _uses(item)
