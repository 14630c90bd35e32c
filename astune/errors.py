"""The few kinds of failure, and the one boundary that turns a bad rollout into data.

Two families, because they are answered differently. A :class:`UserError` is a mistake in what the
user gave us (a file, a key, a model folder): the command prints its message and exits with status 2.
An :class:`EpisodeError` is something that went wrong inside one rollout (a tool that never returned,
a prompt that outgrew the context): it becomes the ``error`` of that episode, is counted, and the run
goes on.
"""

from __future__ import annotations


class AstuneError(Exception):
    """Base of every error that Astune raises on purpose."""


class UserError(AstuneError):
    """Bad input. The message names the file, key or task, and says what to do."""


class ConfigError(UserError):
    """A configuration that cannot be used."""


class TaskError(UserError):
    """A task file, or one task in it, that cannot be used."""


class ModelError(UserError):
    """A model folder that cannot be loaded or does not fit its tokenizer."""


class JudgeError(UserError):
    """A judge that raises, or returns something that is not a finite reward."""


class CheckpointError(UserError):
    """A run folder or checkpoint that cannot be read, written or resumed."""


class EpisodeError(AstuneError):
    """Something that ends one episode and nothing else."""

    #: Stable name under which the failure is counted in the metrics.
    kind = "episode_error"


class ContextOverflow(EpisodeError):
    """A prompt that leaves no room for a completion in the model's context."""

    kind = "context_overflow"


class EpisodeTimeout(EpisodeError):
    """An episode that passed its wall-clock limit."""

    kind = "timeout"


class TurnLimit(EpisodeError):
    """An agent that asked for more model calls than an episode may make."""

    kind = "turn_limit"


class WorkflowFailure(EpisodeError):
    """A workflow that raised."""

    kind = "workflow_error"


class EngineError(AstuneError):
    """The engine failed while it sampled: every episode would fail alike, so the run ends."""


class SandboxError(AstuneError):
    """The sandbox could not be started, or not at the level that was required."""
