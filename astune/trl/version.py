"""TRL must be here, and in the minor version whose private methods the trainer builds on."""

from __future__ import annotations

from importlib.metadata import PackageNotFoundError, version

from astune.errors import ConfigError

#: The minor version of TRL that this package is written for (the extra ``trl`` pins it).
SUPPORTED = (1, 16)


def check_trl(installed: str | None = None) -> None:
    """Passes when the supported minor version of TRL is installed.

    Raises:
        ConfigError: it is not installed, or another version is.
    """
    wanted = ".".join(map(str, SUPPORTED))
    install = f'pip install "trl=={wanted}.*" (or "astune[trl]")'
    try:
        found = installed if installed is not None else version("trl")
    except PackageNotFoundError:
        raise ConfigError(f"astune.trl needs TRL {wanted}, which is not installed: {install}") from None
    if found.split(".")[:2] != [str(number) for number in SUPPORTED]:
        raise ConfigError(
            f"astune.trl builds on private methods of TRL {wanted}, and TRL {found} is installed: {install}"
        )
