"""Error texts as they may be kept in a run folder: without keys and passwords."""

from __future__ import annotations

import re

#: Keys of well-known services, bearer tokens, passwords inside addresses, and values assigned to telling names.
_SECRETS = (
    r"\b(?:sk|pk|hf|ghp|gho|github_pat|xox[abp])[-_][A-Za-z0-9_-]{12,}",
    r"(?<=Bearer )[A-Za-z0-9._~+/-]{8,}=*",
    r"(?<=://)[^/\s:@]+:[^/\s@]+(?=@)",
    r"(?i:(?<=api_key=)|(?<=password=)|(?<=token=)|(?<=secret=))['\"]?[^\s'\",)&]+['\"]?",
)
_SECRET = re.compile("|".join(_SECRETS))


def without_secrets(text: str) -> str:
    """Returns ``text`` with everything that looks like a key or a password replaced by ``[secret]``."""
    return _SECRET.sub("[secret]", text)
