"""The token by which a run proves itself: random, shown once, kept only as a hash."""

from __future__ import annotations

import hashlib
import hmac
import re
import secrets

#: What a run may be called: it is a folder's name and part of the token.
RUN_ID = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,119}")

_TOKEN = re.compile(rf"({RUN_ID.pattern}):[A-Za-z0-9_-]{{43}}")


def new_token(run_id: str) -> str:
    """A token for one run: its id and 256 random bits."""
    return f"{run_id}:{secrets.token_urlsafe(32)}"


def run_of(token: str) -> str | None:
    """The run that a token claims to be of; ``None`` when it has not the form of a token."""
    match = _TOKEN.fullmatch(token)
    return match[1] if match else None


def token_hash(token: str) -> str:
    """SHA-256 in hex. The token is 256 random bits, so no slow hash and no salt are needed."""
    return hashlib.sha256(token.encode("utf-8", "surrogatepass")).hexdigest()


def matches(token: str, stored: str | None) -> bool:
    """Whether ``stored`` is the token's hash, in a time that does not depend on where they differ."""
    return hmac.compare_digest(token_hash(token), stored or token_hash("")) and stored is not None
