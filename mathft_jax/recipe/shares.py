"""Which shards of a folder a process works on."""

import dataclasses

import jax
from jax.sharding import Mesh

# Of a run that several processes begin: enough for their shares to be about
# as large when it goes on with one process less, or one more.
_SHARDS_PER_PROCESS = 8


@dataclasses.dataclass(frozen=True)
class Share:
  """The shards `part`, `part + num_parts`, `part + 2 * num_parts`, ...

  All of them, as it stands. Processes that compute together have the same
  share, and one of them is writing.
  """

  part: int = 0
  num_parts: int = 1
  is_writing: bool = True

  def __post_init__(self):
    if not 0 <= self.part < self.num_parts:
      raise ValueError(f"there is no part {self.part} of {self.num_parts}")

  @property
  def is_whole(self) -> bool:
    """Whether the files are there once this share is done."""
    return self.num_parts == 1 and self.is_writing

  def shards(self, num_shards: int) -> range:
    return range(self.part, num_shards, self.num_parts)


WHOLE = Share()


def of_mesh(mesh: Mesh) -> Share:
  """The share of this process in what is computed on such meshes.

  Processes with meshes of their own share out the shards; those on one mesh
  work on all shards together.
  """
  process = jax.process_index()
  if all(one.process_index == process for one in mesh.devices.flat):
    return of_process()
  return Share(is_writing=process == 0)


def of_process() -> Share:
  """The share of this process in what takes no devices."""
  return Share(jax.process_index(), jax.process_count())


def default_num_shards(share: Share) -> int:
  """For a run that is begun with such shares: 1, or some for each process."""
  return 1 if share.num_parts == 1 else share.num_parts * _SHARDS_PER_PROCESS


def check(share: Share, num_shards: int) -> None:
  """Raises ValueError if some processes would have nothing to do."""
  if share.num_parts > num_shards:
    raise ValueError(
      f"{share.num_parts} processes cannot share {num_shards} shards; start"
      f" {num_shards} processes at most, or, in a new MODEL_DIR, set num_shards"
      f" to {share.num_parts * _SHARDS_PER_PROCESS} or so"
    )


def check_number(num_shards: int | None) -> None:
  """Raises ValueError for a number of shards that there cannot be."""
  if num_shards is not None and num_shards < 1:
    raise ValueError(f"num_shards is {num_shards}; it must be >= 1")
