"""Tests of mathft_jax.recipe.shares."""

import dataclasses

import jax
import pytest

from mathft_jax import partitioning
from mathft_jax.recipe import shares


@pytest.mark.parametrize("num_parts", [1, 3, 8])
def test_each_shard_is_one_processes(num_parts):
  parts = [
    shares.Share(part, num_parts).shards(16) for part in range(num_parts)
  ]
  assert sorted(shard for part in parts for shard in part) == list(range(16))
  assert max(map(len, parts)) - min(map(len, parts)) <= 1


def test_one_process_has_all():
  mesh = partitioning.make_replica_mesh()
  assert shares.of_mesh(mesh) == shares.of_process() == shares.WHOLE
  assert shares.WHOLE.is_whole
  assert not shares.Share(0, 2).is_whole
  assert not shares.Share(is_writing=False).is_whole


@dataclasses.dataclass(frozen=True)
class _Device:
  """What of a device tells whose it is."""

  id: int
  process_index: int
  platform: str = "cpu"


@pytest.mark.parametrize("process", [0, 1])
def test_processes_share_out_shards_or_compute_together(monkeypatch, process):
  monkeypatch.setattr(jax, "process_index", lambda: process)
  monkeypatch.setattr(jax, "process_count", lambda: 2)
  devices = [_Device(i, i // 2) for i in range(4)]
  own = partitioning.make_replica_mesh({"tensor": 2}, devices)
  assert shares.of_mesh(own) == shares.Share(process, 2)
  of_all = partitioning.make_replica_mesh({"tensor": 4}, devices)
  assert shares.of_mesh(of_all) == shares.Share(is_writing=process == 0)
  assert shares.of_process() == shares.Share(process, 2)


def test_what_cannot_be_shared_is_an_error():
  with pytest.raises(ValueError, match="no part 2 of 2"):
    shares.Share(2, 2)
  with pytest.raises(ValueError, match="num_shards is 0; it must be >= 1"):
    shares.check_number(0)
  shares.check(shares.Share(1, 4), 4)
  with pytest.raises(
    ValueError, match="4 processes cannot share 3 shards; .* num_shards to 32"
  ):
    shares.check(shares.Share(1, 4), 3)


def test_several_processes_begin_with_some_shards_each():
  assert shares.default_num_shards(shares.WHOLE) == 1
  assert shares.default_num_shards(shares.Share(2, 5)) == 40
  # Together on one mesh they share out nothing.
  assert shares.default_num_shards(shares.Share(is_writing=False)) == 1
