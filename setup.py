"""Packaging: `tasks/` and `gin/` travel inside the package."""

import pathlib

import setuptools

_ROOT = pathlib.Path(__file__).parent

# From the version that was tested to below the next that may break it;
# docs/install.md gives the table.
_REQUIRES = [
  "jax>=0.10.2,<0.11",
  "flax>=0.12.8,<0.13",  # linen
  "optax>=0.2.8,<0.3",
  "orbax-checkpoint>=0.12.8,<0.13",
  "seqio>=0.0.20,<0.1",  # tasks, mixtures, vocabularies
  "tensorflow>=2.21,<2.22",  # seqio's tf.data
  "tensorflow-text>=2.21,<2.22",
  "sentencepiece>=0.2.1,<0.3",
  "tokenizers>=0.21,<0.24",  # the tokenizer.json of open checkpoints
  "sympy>=1.14,<1.15",  # the last stage of grading
  "mpmath>=1.3,<1.4",  # its numeric stage
  "gin-config>=0.5,<0.6",
  "absl-py>=2.1,<3",  # T5X's flags
  "clu>=0.0.12,<0.1",  # metrics and their writers
  "jaxtyping>=0.3.2,<0.4",  # shapes in signatures
  "numpy>=2.1,<3",
  "safetensors>=0.5,<1",  # open weights in and out
  "jinja2>=3.1,<4",  # the report's page
  "matplotlib>=3.9,<4",  # the report's figures
  "tensorboard>=2.20,<3",  # clu writes its events
  "tqdm>=4.66,<5",  # progress bars
]
_PARQUET = ["pyarrow>=18,<27"]  # rows in Parquet files
_TEST = _PARQUET + [
  "beartype>=0.20,<1",  # checks annotations while the tests run
  "hypothesis>=6.100,<7",
  "pytest>=8.3,<10",
  "pytest-xdist>=3.6,<4",
  "setuptools>=77",  # tests/test_packaging.py builds a wheel
  "transformers>=5,<6",  # judges our reading of tokenizer.json; needs no torch
]
_DEV = [
  "ruff>=0.12,<1",
  "pyright[nodejs]>=1.1.400,<2",  # with a node of its own
  "pre-commit>=4,<5",
]
# Coverage-guided fuzzing of the grader, tests/grading/fuzz.py.
_FUZZ = ["atheris>=2.3,<4"]
# SeqIO's offline caching. Beam's protobuf is too old for later sentencepiece.
_CACHE = ["apache-beam[tfrecord]>=2.60,<3", "sentencepiece>=0.2.1,<0.2.2"]

setuptools.setup(
  name="mathft-jax",
  version="0.1.0",
  description="Fine-tunes language models to solve math problems, in JAX.",
  long_description=(_ROOT / "README.md").read_text(encoding="utf-8"),
  long_description_content_type="text/markdown",
  license="Apache-2.0",
  python_requires=">=3.11",
  packages=setuptools.find_packages(include=["mathft_jax", "mathft_jax.*"])
  + ["mathft_jax.tasks", "mathft_jax.gin"],
  package_dir={"mathft_jax.tasks": "tasks", "mathft_jax.gin": "gin"},
  package_data={
    "mathft_jax.gin": ["**/*.gin"],
    "mathft_jax.data": ["vocabularies/*.model"],
    "mathft_jax.pretrained": ["arith_base/*"],
    "mathft_jax.report": ["templates/*"],
  },
  install_requires=_REQUIRES,
  extras_require={
    "parquet": _PARQUET,
    "test": _TEST,
    "dev": _TEST + _DEV,
    "fuzz": _FUZZ,
    "cache": _CACHE,
    "tpu": ["jax[tpu]>=0.10.2,<0.11"],
    "gpu": ["jax[cuda12]>=0.10.2,<0.11"],
  },
  entry_points={"console_scripts": ["mathft = mathft_jax.cli.main:main"]},
)
