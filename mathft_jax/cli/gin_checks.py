"""Checks that bindings can run, and that each of them changes something."""

import collections
import dataclasses
from collections.abc import Callable, Iterable, Sequence
from typing import Any

from mathft_jax.cli import errors, gin_bindings
from mathft_jax.cli.gin_bindings import Binding, Use


def check(
  bindings: Sequence[Binding], entry_points: Sequence[Callable[..., Any]]
) -> None:
  """Raises ConfigError unless these bindings can run, and each is of use.

  That is: each macro in use is bound, none is still required, each call has
  its required parameters, and each binding is reachable from an entry point.
  A binding of a file may be reachable through values that are overridden; a
  flag must reach a value that is in force.
  """
  _check_macros(bindings)
  in_force = _reachable(bindings, entry_points, overridden=False)
  in_reach = _reachable(bindings, entry_points, overridden=True)
  unused = [
    binding
    for binding in bindings
    if binding not in (in_force if binding.is_flag else in_reach)
  ]
  if unused:
    macros = {b.name for b in bindings if b.target is None and b not in unused}
    raise errors.ConfigError("; ".join(_unused(b, macros) for b in unused))


def _check_macros(bindings: Sequence[Binding]) -> None:
  macros = {b.name: b for b in bindings if b.target is None}
  for binding in bindings:
    for use in binding.uses:
      name = use.name.removeprefix("%")
      if (
        use.target is None
        and use.name != gin_bindings.REQUIRED
        and name not in macros
      ):
        raise errors.ConfigError(
          f"{binding.where}: nothing sets the macro {name}"
          f"{errors.did_you_mean(name, macros)}"
        )
  last = {(b.scope, b.target, b.name): b for b in bindings}
  missing = [b for b in last.values() if b.is_required]
  if missing:
    flags = " ".join(f"--gin.{b.label}=..." for b in missing)
    where = ", ".join(sorted({b.where for b in missing}))
    raise errors.ConfigError(
      f"not set: {', '.join(b.label for b in missing)}; give {flags}, or set"
      f" it in a gin file (required by {where})"
    )


def _reachable(
  bindings: Sequence[Binding],
  entry_points: Sequence[Callable[..., Any]],
  overridden: bool,
) -> set[Binding]:
  """Returns the bindings that calls of the entry points can see.

  `overridden` is whether values that a later or more deeply scoped binding
  replaces count as well. Without them, also checks that gin's calls find their
  required parameters.
  """
  by_target: dict[Any, list[Binding]] = collections.defaultdict(list)
  for binding in bindings:
    key = binding.name if binding.target is None else binding.target
    by_target[key].append(binding)
  pending = [
    (
      Use(f"{f.__module__.rpartition('.')[2]}.{f.__name__}", "", f),
      "no command",
    )
    for f in entry_points
  ]
  seen: set[tuple[str, Any]] = set()
  reached: set[Binding] = set()
  while pending:
    use, where = pending.pop()
    # gin evaluates a macro's value in a scope that is named like the macro.
    key, scope = (
      (use.name[1:], use.name[1:])
      if use.target is None
      else (use.target, use.scope)
    )
    visible = [b for b in by_target[key] if _is_within(scope, b.scope)]
    if not overridden:
      visible = _winners(visible)
      if use.is_call and use.target is not None:
        _check_call(use, visible, where)
    if (scope, key) in seen:
      continue
    seen.add((scope, key))
    reached.update(visible)
    for binding in visible:
      for inner in binding.uses:
        # A reference without a scope of its own runs in the caller's. One
        # that is only passed on may run later, outside of any scope.
        if inner.target is not None and not inner.scope:
          if not inner.is_call:
            pending.append((inner, binding.where))
          inner = dataclasses.replace(inner, scope=scope)
        pending.append((inner, binding.where))
  return reached


def _is_within(scope: str, outer: str) -> bool:
  return not outer or f"{scope}/".startswith(f"{outer}/")


def _winners(bindings: Sequence[Binding]) -> list[Binding]:
  """Returns the binding in force for each name: the deepest, then the last."""
  winners: dict[str, Binding] = {}
  for binding in bindings:
    rival = winners.get(binding.name)
    if rival is None or _depth(binding.scope) >= _depth(rival.scope):
      winners[binding.name] = binding
  return list(winners.values())


def _depth(scope: str) -> int:
  return len(scope.split("/")) if scope else 0


def _check_call(use: Use, visible: Sequence[Binding], where: str) -> None:
  bound = {binding.name for binding in visible}
  missing = [
    p.name
    for p in gin_bindings.parameters(use.target).values()
    if p.default is p.empty
    and p.kind in (p.POSITIONAL_OR_KEYWORD, p.KEYWORD_ONLY)
    and p.name not in bound
  ]
  if missing:
    prefix = f"{use.scope}/" if use.scope else ""
    raise errors.ConfigError(
      f"{where}: {prefix}{use.name} is called without"
      f" {', '.join(missing)}; set {prefix}{use.name}.{missing[0]} in a gin"
      " file"
    )


def _unused(binding: Binding, macros: Iterable[str]) -> str:
  if binding.target is None:
    return (
      f"{binding.where}: nothing uses the macro {binding.name}"
      f"{errors.did_you_mean(binding.name, macros)}"
    )
  return f"{binding.where}: nothing in this run uses {binding.label}"
