"""Every key that a scenario's YAML may hold, with its type, default and meaning. The id is the file's name."""

from __future__ import annotations

from pathlib import PurePosixPath
from typing import Annotated, Any, Literal, Self

from pydantic import Field, field_validator, model_validator

from astune.config.section import Section
from autorl_bench.registry import ID_PATTERN
from autorl_bench.types import EpisodeKind, Metric, Split

ClassPath = Annotated[str, Field(pattern=r"^[^>]+->[A-Za-z_]\w*$")]
Sha256 = Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]
_GIB = 2**30


class DataFile(Section):
    """A JSONL or Parquet file of the vault: the grader's folder, which no agent can read."""

    path: str = Field(description="The file, relative to the vault.")
    how: str = Field(min_length=1, description="How to get the file: a command or an address. {vault} is filled in.")
    sha256: Sha256 | None = Field(None, description="Hash that the file must have; null takes any.")
    question_key: str = Field("question", description="Field that holds the problem.")
    answer_key: str = Field("answer", description="Field that holds the reference, GSM8K's `#### 18` form too.")

    @field_validator("path")
    @classmethod
    def _stays_below(cls, value: str) -> str:
        return _relative(value)


class Files(Section):
    """Problems from two files. ``dev`` is set apart from the training file, and the agent is given the rest."""

    train: DataFile
    test: DataFile


class Source(Section):
    """Where problems come from: a seeded generator, or files."""

    type: Literal["generator", "files"]
    generator: str | None = Field(
        None,
        description="nano_gsm, countdown, python_function, reasoning_gym; or module->Class, or file.py->Class "
        "beside the YAML.",
    )
    arguments: dict[str, Any] = Field({}, description="Keyword arguments of the generator.")
    files: Files | None = Field(None, description="Used when `type` is files.")

    @model_validator(mode="after")
    def _one_source(self) -> Self:
        if getattr(self, self.type) is None:
            raise ValueError(f"type is {self.type}, but `{self.type}` is not given")
        if self.type == "generator" and self.files is not None:
            raise ValueError("type is generator, so that `files` would not be read; remove it or set type: files")
        if self.type == "files" and (self.generator is not None or self.arguments):
            raise ValueError("type is files, so that `generator` would not be read; remove it or set type: generator")
        return self


class Sizes(Section):
    """Number of items of each split."""

    train: int | None = Field(None, ge=1, description="Null takes all that files hold beyond dev.")
    dev: int = Field(ge=1)
    test: int | None = Field(None, ge=1, description="Null takes all that the test file holds.")
    twin: int = Field(0, ge=0, description="Drawn like test with another seed; files have none.")

    def of(self, split: Split) -> int | None:
        """Number of items of ``split``; None for all that there are."""
        size: int | None = getattr(self, split)
        return size


class Prompt(Section):
    """What is put around a problem's text, and how the conversation becomes tokens."""

    system: str | None = Field(None, description="System message; a workflow brings its own.")
    user: str = Field("{question}", description="User message; {question} stands for the problem.")
    renderer: str = Field("auto", description="Chat renderer: auto, default (the chat template), qwen3, llama-3, ...")

    @field_validator("user")
    @classmethod
    def _asks(cls, value: str) -> str:
        if value.count("{question}") != 1:
            raise ValueError("the user message should hold {question} once, where the problem goes")
        return value


class Episode(Section):
    """How a model is asked: `direct` is one completion; `workflow` runs an agent's workflow, tools and all."""

    kind: EpisodeKind = "direct"
    workflow: ClassPath | None = Field(
        None, description="Workflow whose `final_answer` is graded; used when `kind` is workflow."
    )
    max_turns: int = Field(1, ge=1, description="Model calls of one episode.")

    @model_validator(mode="after")
    def _workflow_is_named(self) -> Self:
        if (self.kind == "workflow") != (self.workflow is not None):
            needs = "names no workflow" if self.workflow is None else "does not run one"
            raise ValueError(
                f"kind is {self.kind}, which {needs}; give both `kind: workflow` and `workflow`, or neither"
            )
        return self


class Generation(Section):
    """How completions are sampled. Decoding is greedy; nothing of a submission can change that."""

    max_tokens: int = Field(ge=1, description="Tokens of one completion; a longer one is cut and counted.")
    max_context: int | None = Field(None, ge=1, description="Tokens of prompt and completion; null takes the model's.")


class Budget(Section):
    """What one run of an agent may use; dev queries and training are charged to it."""

    wall_seconds: float = Field(gt=0)
    cpu_seconds: float = Field(gt=0, description="Processor seconds of all its processes together.")
    gpu_seconds: float = Field(0, ge=0)
    memory_gib: float = Field(gt=0)
    disk_gib: float = Field(gt=0)
    submissions: int = Field(ge=1, description="Submissions that are evaluated on dev or declared final.")
    dev_queries: int = Field(ge=0, description="Questions for a score on dev.")

    @property
    def memory_bytes(self) -> int:
        """``memory_gib`` in bytes."""
        return int(self.memory_gib * _GIB)

    @property
    def disk_bytes(self) -> int:
        """``disk_gib`` in bytes."""
        return int(self.disk_gib * _GIB)


class SupervisedRecipe(Section):
    """Training on the worked solutions of the training data, for a base that knows nothing of the task."""

    steps: int = Field(ge=1)
    learning_rate: float = Field(gt=0, description="Peak, after a short warm-up.")
    optimizer: Literal["adamw", "muon"] = Field("adamw", description="`muon` is for the layers' matrices.")
    batch: int = Field(32, ge=1, description="Examples of a step.")
    decay: float = Field(1.0, ge=0, le=1, description="Share of the steps over which the learning rate falls to 0.")


class Recipe(Section):
    """A training run of ours on this scenario: what the normalised score 1 stands for."""

    name: str = Field(pattern=r"^[a-z0-9_]+$")
    conf: str | None = Field(None, description="Configuration of `astuner`, relative to the project's folder.")
    overrides: list[str] = Field([], description="`section.key=value`; {base_model} and {train_data} are paths.")
    supervised: SupervisedRecipe | None = Field(None, description="Supervised training, in place of `conf`.")
    note: str = ""

    @model_validator(mode="after")
    def _one_training(self) -> Self:
        if (self.conf is None) == (self.supervised is None):
            raise ValueError("give `conf` (a configuration of the trainer) or `supervised`, one of the two")
        return self


class BaseModelFiles(Section):
    """Where the base model comes from."""

    bundled: str | None = Field(None, description="Name of a policy that comes with the package (nano, nano_refine).")
    how: str | None = Field(None, description="How to get the folder: a command or an address. {public} is filled in.")

    @model_validator(mode="after")
    def _one_origin(self) -> Self:
        if (self.bundled is None) == (self.how is None):
            raise ValueError(
                "give `bundled` (a policy of the package) or `how` (how to get the folder), one of the two"
            )
        return self


class Scenario(Section):
    """One scenario: the seed's four fields, and what they leave out."""

    id: str = Field(pattern=rf"^{ID_PATTERN}$", description="Not written in the file: it is the file's name.")
    title: str = Field(min_length=1)
    base_model_path: str = Field(description="Folder of the base model, relative to the benchmark's folder.")
    train_data_path: str = Field(description="Training data (JSONL), relative to the benchmark's folder.")
    baseline_score: float = Field(ge=0, le=100, description="The base model's score on test, in percent.")
    metric: Metric
    base_model: BaseModelFiles
    source: Source
    n: Sizes
    prompt: Prompt = Prompt()
    episode: Episode = Episode()
    generation: Generation
    checker: str = Field(
        description="math, countdown, python_function; or module->Class, or file.py->Class beside the YAML."
    )
    checker_arguments: dict[str, Any] = Field({}, description="Keyword arguments of the checker.")
    budget: Budget
    seed: int = Field(ge=0, description="Draws train and dev. A run's test and twin are drawn from the run's own seed.")
    recipes: list[Recipe] = Field([], description="Reference recipes; the first is what score 1 stands for.")

    @field_validator("base_model_path", "train_data_path")
    @classmethod
    def _stays_below(cls, value: str) -> str:
        return _relative(value)

    @model_validator(mode="after")
    def _fits_its_source(self) -> Self:
        if self.source.type == "generator" and (self.n.train is None or self.n.test is None):
            raise ValueError("n.train and n.test are needed: a generator has no end")
        if self.source.type == "files" and self.n.twin:
            raise ValueError(f"n.twin is {self.n.twin}, but files have no twin: set it to 0")
        if self.episode.kind == "workflow" and self.prompt.system is not None:
            raise ValueError("prompt.system is given, but a workflow brings its own system message: remove one")
        return self


def _relative(value: str) -> str:
    path = PurePosixPath(value)
    if not value or path.is_absolute() or ".." in path.parts or "\\" in value or path == PurePosixPath("."):
        raise ValueError(f"{value!r} should be a relative path without '..'")
    return value
