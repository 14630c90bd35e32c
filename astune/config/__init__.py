"""The configuration: its schema, and how a YAML file and overrides become one checked object.

Importing this package never imports torch.
"""

from astune.config.load import dump_yaml, load_config
from astune.config.schema import AstuneConfig

__all__ = ["AstuneConfig", "dump_yaml", "load_config"]
