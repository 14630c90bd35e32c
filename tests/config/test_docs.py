"""The page and the schema that users read are those of the code."""

import subprocess
import sys

from astune.config.explain import known_keys
from astune.config.load import schema


def test_the_configuration_page_is_up_to_date(project_root):
    command = [sys.executable, "scripts/write_config_docs.py", "--check"]
    status = subprocess.run(command, cwd=project_root, check=False).returncode
    assert status == 0, "docs/configuration.md is old; run: python scripts/write_config_docs.py"


def test_every_key_is_explained():
    definitions = schema()["$defs"].values()
    unexplained = [
        key
        for definition in definitions
        for key, entry in definition["properties"].items()
        if "description" not in entry and "$ref" not in entry
    ]
    assert unexplained == []


def test_the_schema_refuses_unknown_keys_everywhere():
    assert all(definition["additionalProperties"] is False for definition in schema()["$defs"].values())


def test_known_keys_reach_into_nested_sections():
    assert ("task_reader", "heldout", "nano_gsm", "seed") in set(known_keys())
