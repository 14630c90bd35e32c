"""Every key that a configuration file may hold, with its type, default and meaning.

One class a section, in the order of the file. The descriptions here are the only ones: the JSON
schema and docs/configuration.md are generated from them.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import Field, ValidationInfo, field_validator

from astune.config.refine import Refine
from astune.config.section import FilePath, Section
from astune.tools.types import SandboxLimits

#: ``package.module->Class`` (or ``path/to/file.py->Class``), as every pluggable class is named.
ClassPath = Annotated[str, Field(pattern=r"^[^\s>]+->[A-Za-z_]\w*$")]
ReaderType = Literal["dataset_file", "huggingface_dat_repo", "nano_gsm", "env_service"]
HeldoutType = Literal["auto", "dataset_file", "huggingface_dat_repo", "nano_gsm", "env_service"]


# --- where tasks come from --------------------------------------------------------------------------------------


class DatasetFile(Section):
    """A JSONL or Parquet file, one task a record."""

    path: FilePath | None = Field(None, description="The file, relative to the working directory.")
    question_key: str = Field("question", description="Field that holds the problem.")
    answer_key: str = Field("answer", description="Field that holds the reference, GSM8K's `#### 18` form too.")


class HuggingfaceDatRepo(Section):
    """A Hugging Face data set: a name (from the local cache, or the hub) or a downloaded folder."""

    path: str = Field("openai/gsm8k", description="Name on the hub, or a local folder.")
    subset: str | None = Field("main", description="Subset (configuration) of the data set; null where it has none.")
    split: str = Field("train", description="Split that is read.")
    question_key: str = Field("question", description="Field that holds the problem.")
    answer_key: str = Field("answer", description="Field that holds the reference.")


class NanoGsm(Section):
    """The seeded generator of GSM8K-shaped word problems; its train and test splits are disjoint."""

    n_train: int = Field(4096, ge=1, description="Number of training problems.")
    seed: int = Field(0, ge=0, description="Seed of the generator, independent of the run's seed.")
    families: list[str] | None = Field(None, description="Problem families to draw from; null takes all.")
    largest: int | None = Field(
        None, ge=1, description="Leaves out problems with a number above it, given or on the way; null takes all."
    )


class EnvService(Section):
    """An environment service: not there in this version, and `type: env_service` is refused."""

    url: str | None = Field(None, description="Address of the service.")


class Sources(Section):
    """Options of each kind of task source; only those of the chosen `type` are used."""

    type: HeldoutType = Field("nano_gsm", description="Kind of source.")
    dataset_file: DatasetFile = Field(DatasetFile(), description="Used when `type` is dataset_file.")
    huggingface_dat_repo: HuggingfaceDatRepo = Field(
        HuggingfaceDatRepo(), description="Used when `type` is huggingface_dat_repo."
    )
    nano_gsm: NanoGsm = Field(NanoGsm(), description="Used when `type` is nano_gsm.")
    env_service: EnvService = Field(EnvService(), description="Used when `type` is env_service.")

    @field_validator("type")
    @classmethod
    def _is_in_this_release(cls, value: str) -> str:
        if value == "env_service":
            raise ValueError(
                "env_service is not part of this release; use dataset_file, huggingface_dat_repo or nano_gsm"
            )
        return value

    @field_validator("dataset_file")
    @classmethod
    def _path_is_given(cls, value: DatasetFile, info: ValidationInfo) -> DatasetFile:
        # `type` stands before the sources in the class, so it is validated by now.
        if info.data.get("type") == "dataset_file" and value.path is None:
            raise ValueError("type is dataset_file, but dataset_file.path is not set; give the JSONL or Parquet file")
        return value


class Heldout(Sources):
    """Problems that are never trained on, for evaluation."""

    type: HeldoutType = Field(
        "auto",
        description="`auto` takes them from the training source: the test split of nano_gsm or of the hub data set, or "
        "`fraction` of a file's tasks. Any other type names a source of its own.",
    )
    fraction: float = Field(
        0.1,
        gt=0.0,
        lt=1.0,
        description="Share of a file set apart under `auto`, by task, the same in every run.",
    )


class TaskReader(Sources):
    """Where training tasks, and the held-out ones, come from."""

    type: ReaderType = Field(
        "nano_gsm", description="Kind of source; `env_service` is known by name and refused in this version."
    )
    heldout: Heldout = Field(Heldout(), description="Where the held-out tasks come from.")


# --- what an agent does with a task -----------------------------------------------------------------------------


class Sandbox(Section):
    """Limits of one tool call or grading, and the confinement that it must have."""

    require: Literal["kernel", "process", "none"] = Field(
        "process",
        description="Weakest confinement accepted; `kernel` refuses to start without Landlock and seccomp.",
    )
    seconds: float = Field(10.0, gt=0, description="Wall-clock limit of a call.")
    cpu_seconds: float = Field(10.0, gt=0, description="Processor time of a call.")
    memory_mb: int = Field(512, ge=16, description="Memory limit, MiB.")
    file_mb: int = Field(8, ge=0, description="Largest file that a call may write, MiB.")
    output_kb: int = Field(64, ge=1, description="Output kept of each stream, KiB.")
    preload: list[str] = Field(
        [],
        description="Modules that tool code finds imported already (numpy, sympy): calls that use them start faster.",
    )

    @property
    def limits(self) -> SandboxLimits:
        """The limits in the sandbox's own units (seconds and bytes)."""
        return SandboxLimits(
            seconds=self.seconds,
            cpu_seconds=self.cpu_seconds,
            memory=self.memory_mb * 2**20,
            file_size=self.file_mb * 2**20,
            output=self.output_kb * 2**10,
        )


class Rollout(Section):
    """How episodes are run and sampled."""

    agentscope_workflow: ClassPath = Field(
        "tutorial.example_math_agent.math_agent->ExampleMathLearn",
        description="The workflow, as `module->Class`.",
    )
    workflow: ClassPath | None = Field(
        None, description="A workflow that uses no AgentScope; where set, it takes the place of `agentscope_workflow`."
    )
    temperature: float = Field(1.0, gt=0, description="Sampling temperature of training episodes.")
    top_p: float = Field(1.0, gt=0, le=1.0, description="Nucleus sampling; 1 samples from the whole distribution.")
    max_tokens: int = Field(192, ge=1, description="Largest completion of one turn, tokens.")
    max_turns: int = Field(6, ge=1, description="Model calls in one episode.")
    max_episode_seconds: float = Field(120.0, gt=0, description="Wall-clock limit; past it the episode is dropped.")
    threads: int | None = Field(
        None,
        ge=1,
        description="Threads of torch while episodes run; null leaves one of the trainer's to tools.",
    )
    concurrency: int = Field(64, ge=1, description="Episodes that run at once.")
    deterministic: bool = Field(
        True, description="Same seed, same run, to the bit, however long tools take; off lets turns join as they come."
    )
    sandbox: Sandbox = Field(Sandbox(), description="Confinement and limits of tool calls and graders.")

    @property
    def workflow_path(self) -> str:
        """The `module->Class` path of the workflow that runs."""
        return self.workflow or self.agentscope_workflow


class TaskJudge(Section):
    """Who grades an episode."""

    judge_protocol: ClassPath = Field(
        "astune.task_judge.math_answer_as_judge->MathAnswerAsJudge", description="The judge, as `module->Class`."
    )
    arguments: dict[str, Any] = Field({}, description="Keyword arguments of the judge's constructor.")


# --- the policy -------------------------------------------------------------------------------------------------


class Lora(Section):
    """Low-rank adapters instead of full fine-tuning (needs the `lora` extra)."""

    enabled: bool = Field(False, description="Train adapters only.")
    r: int = Field(16, ge=1, description="Rank.")
    alpha: int = Field(32, ge=1, description="Scale; the update is multiplied by alpha / r.")
    dropout: float = Field(0.0, ge=0.0, lt=1.0, description="Dropout on the adapters' input.")
    target_modules: list[str] | None = Field(None, description="Names of the layers to adapt; null lets peft choose.")


class Model(Section):
    """The policy."""

    path: str = Field(
        "nano", min_length=1, description="`nano` or `nano_refine` (bundled), a local folder, or a name on the hub."
    )
    dtype: Literal["float32", "bfloat16"] = Field("float32", description="Type of weights and activations.")
    device: Literal["auto", "cpu", "cuda"] = Field("auto", description="`auto` takes the GPU where there is one.")
    renderer: str = Field(
        "auto",
        description="Chat format, as the renderers library names it (`qwen3`, ...); `auto` decides by the tokenizer.",
    )
    max_context: int | None = Field(None, ge=16, description="Prompt and completion, tokens; null is the model's own.")
    lora: Lora = Field(Lora(), description="Low-rank adapters.")


# --- training ---------------------------------------------------------------------------------------------------


class Trainer(Section):
    """One training step: `prompts_per_step` groups of `group_size` episodes, then the updates."""

    algorithm: Literal["grpo", "dr_grpo", "dapo", "gspo", "cispo", "rloo"] = Field(
        "grpo", description="Loss and advantage, by the name of the paper."
    )
    steps: int = Field(100, ge=0, description="Number of steps; 0 only evaluates.")
    prompts_per_step: int = Field(8, ge=1, description="Tasks in a step.")
    group_size: int = Field(8, description="Episodes of each task, at least 2.")
    advantages: Literal["auto", "grpo", "dr_grpo", "rloo", "batch_std"] = Field(
        "auto",
        description="Advantage of an episode over its group: over the group's standard deviation (`grpo`), undivided "
        "(`dr_grpo`), leave-one-out (`rloo`), over the batch's (`batch_std`); `auto` is the algorithm's own.",
    )
    learning_rate: float = Field(1e-4, gt=0, description="Peak learning rate of AdamW.")
    schedule: Literal["constant", "linear", "cosine"] = Field("constant", description="Learning rate after warm-up.")
    warmup_steps: int = Field(0, ge=0, description="Steps over which the learning rate rises from 0.")
    weight_decay: float = Field(0.0, ge=0, description="Weight decay of AdamW.")
    max_grad_norm: float = Field(1.0, ge=0, description="Gradients are scaled down to this norm; 0 never scales.")
    beta: float = Field(0.0, ge=0, description="Weight of the KL penalty to the initial model; 0 keeps no reference.")
    kl_bias_correction: bool = Field(True, description="Weigh the KL penalty by the importance ratio.")
    epsilon_low: float = Field(0.2, gt=0, description="Ratios are clipped to 1 - epsilon_low and above.")
    epsilon_high: float = Field(
        0.2, gt=0, description="Ratios are clipped to 1 + epsilon_high and below; DAPO uses 0.28."
    )
    delta: float | None = Field(
        None, gt=1, description="Second cap on the ratio, for negative advantages; null for none."
    )
    cispo_max: float = Field(5.0, gt=0, description="Largest importance weight of cispo.")
    updates_per_batch: int = Field(1, ge=1, description="Optimiser steps on the episodes of one step.")
    micro_batch_tokens: int = Field(
        4608, ge=1, description="Tokens in one forward and backward pass; further ones accumulate."
    )
    threads: int | None = Field(None, ge=1, description="Threads of torch; null takes the number of cores.")

    @field_validator("group_size")
    @classmethod
    def _a_group_compares(cls, value: int) -> int:
        if value < 2:
            raise ValueError(
                f"group_size is {value}, but an episode is scored against the others of its group: "
                "with fewer than 2 every advantage is 0 and nothing is learnt; use 4 to 16 (the default is 8)"
            )
        return value


class Evaluation(Section):
    """Held-out evaluation, before, during and after training."""

    every: int = Field(25, ge=0, description="Steps between evaluations; 0 evaluates only before and after.")
    n_heldout: int = Field(200, ge=1, description="Held-out problems, or all where there are fewer.")
    at_start: bool = Field(True, description="Evaluate the untrained policy.")
    sampled: bool = Field(True, description="Score one sample a problem at temperature 1.")
    greedy: bool = Field(True, description="Score greedy decoding.")


class Checkpoint(Section):
    """What is kept, and when."""

    every: int = Field(10, ge=1, description="Steps between checkpoints.")
    keep_best: bool = Field(True, description="Keep the best checkpoint by held-out success, besides the last.")


class Tracking(Section):
    """What is written besides metrics.jsonl, summary.json and the reward curve."""

    tensorboard: bool = Field(False, description="Write TensorBoard events (needs the `track` extra).")
    report: bool = Field(True, description="Write report.html.")


class AstuneConfig(Section):
    """A whole run."""

    name: str = Field(
        "astune",
        pattern=r"^[A-Za-z0-9_][A-Za-z0-9._-]*$",
        max_length=100,
        description="Name of the run and of its folder. Unset, it is the configuration file's name without its ending.",
    )
    seed: int = Field(0, ge=0, lt=2**32, description="Seed of everything random in the run.")
    save_dir: FilePath = Field(Path("saved_experiments"), description="Folder that holds one folder a run.")
    task_reader: TaskReader = Field(TaskReader(), description="Where tasks come from.")
    rollout: Rollout = Field(Rollout(), description="How episodes are run and sampled.")
    task_judge: TaskJudge = Field(TaskJudge(), description="Who grades an episode.")
    model: Model = Field(Model(), description="The policy.")
    trainer: Trainer = Field(Trainer(), description="How the policy is updated.")
    refine: Refine = Field(Refine(), description="Critique, second attempt, and how they train.")
    evaluation: Evaluation = Field(Evaluation(), description="Held-out evaluation.")
    checkpoint: Checkpoint = Field(Checkpoint(), description="What is kept, and when.")
    tracking: Tracking = Field(Tracking(), description="What else is written.")

    @field_validator("refine")
    @classmethod
    def _refine_fits_the_trainer(cls, value: Refine, info: ValidationInfo) -> Refine:
        # `trainer` stands before `refine` in the class; it is missing where it was refused itself.
        trainer = info.data.get("trainer")
        if not value.enabled or trainer is None:
            return value
        if trainer.advantages != "auto":
            raise ValueError(
                f"trainer.advantages is {trainer.advantages}, but the refine stage has advantages of its own "
                "(refine.credit): leave trainer.advantages at auto"
            )
        coefficients = [value.turn_kl, *(stage.turn_kl for stage in value.stages)]
        if trainer.algorithm == "rloo" and (trainer.beta > 0 or any(any(kl or ()) for kl in coefficients)):
            raise ValueError(
                "trainer.algorithm is rloo, whose KL term is part of the reward and not of a turn's loss: set "
                "trainer.beta and turn_kl to 0, or use another algorithm"
            )
        return value

    @property
    def run_folder(self) -> Path:
        """`save_dir/name`: no timestamp, so that the same command finds its run again."""
        return self.save_dir / self.name
