"""What chips can do: memory, arithmetic, bandwidth."""

import dataclasses
from collections.abc import Sequence
from typing import Any


@dataclasses.dataclass(frozen=True)
class Chip:
  """One accelerator, or what one device has of it.

  `hbm_gib` is its memory; `tflops` its peak of dense bfloat16 products, in
  10^12 operations a second; `hbm_gbps` what it reads from memory and
  `link_gbps` what it sends to other chips over all its links together, one
  way, both in 10^9 bytes a second. `kinds` are JAX's names for it.
  """

  name: str
  kinds: tuple[str, ...]
  hbm_gib: float
  tflops: float
  hbm_gbps: float
  link_gbps: float

  def share(self, devices_per_chip: int) -> "Chip":
    """What each of several devices on one chip has of it."""
    return dataclasses.replace(
      self,
      hbm_gib=self.hbm_gib / devices_per_chip,
      tflops=self.tflops / devices_per_chip,
      hbm_gbps=self.hbm_gbps / devices_per_chip,
      link_gbps=self.link_gbps / devices_per_chip,
    )


# TPUs: Google Cloud's page of each version ("System architecture", "TPU v4",
# "v5e", "v5p", "v6e", "TPU7x"). These give memory in GB or GiB without
# distinction, and links as the sum of both directions, of which half stands
# here. GPUs: NVIDIA's data sheets of the SXM modules, without sparsity; their
# links are NVLink's, which end at the node: between nodes there is far less.
# Link figures are peaks: no single collective uses all links at once.
CHIPS = (
  Chip("v4", ("TPU v4",), 32, 275, 1228, 300),
  Chip("v5e", ("TPU v5 lite", "TPU v5e"), 16, 197, 819, 200),
  Chip("v5p", ("TPU v5", "TPU v5p"), 95, 459, 2765, 600),
  Chip("v6e", ("TPU v6 lite", "TPU v6e"), 32, 918, 1638, 400),
  # Ironwood. Each chip is two devices to JAX.
  Chip("tpu7x", ("TPU7x", "TPU v7x"), 192, 2307, 7380, 600),
  Chip(
    "a100",
    ("NVIDIA A100-SXM4-80GB", "NVIDIA A100 80GB PCIe"),
    80,
    312,
    2039,
    300,
  ),
  Chip("h100", ("NVIDIA H100 80GB HBM3",), 80, 989, 3350, 450),
  Chip("h200", ("NVIDIA H200",), 141, 989, 4800, 450),
)


def by_name(name: str) -> Chip | None:
  """The chip of that name in `CHIPS`, if there is one."""
  return next((chip for chip in CHIPS if chip.name == name), None)


def of_devices(devices: Sequence[Any]) -> Chip | None:
  """What each of these devices of JAX has, or None where it is not known.

  TPU devices with the same coordinates share a chip.
  """
  kind = devices[0].device_kind
  chip = next((chip for chip in CHIPS if kind in chip.kinds), None)
  if chip is None or not hasattr(devices[0], "coords"):
    return chip
  places = {
    (getattr(device, "slice_index", 0), *device.coords) for device in devices
  }
  return chip.share(max(1, len(devices) // len(places)))
