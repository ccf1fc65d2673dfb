"""Who a GitHub App is: its short-lived tokens for one repository, and its login there.

:mod:`reconciler.adapters.forges.github` asks it. The App signs a JWT with its private key (RFC 7519, RS256) and
gets an installation token for it, which GitHub ends after an hour.
"""

from __future__ import annotations

import base64
import json
import threading
from collections.abc import Callable
from datetime import datetime, timedelta
from functools import cached_property
from typing import TYPE_CHECKING, Any

from reconciler.adapters.forges.http import ForgeClient
from reconciler.core.errors import Terminal

if TYPE_CHECKING:
    import httpx

HEADERS = {"X-GitHub-Api-Version": "2022-11-28"}

_EARLY = timedelta(minutes=1)
"""Before its end, a token is not used any more; and our clock may be that much ahead of GitHub's."""
_LIFE = timedelta(minutes=9)
"""Of a JWT. GitHub takes none that ends more than ten minutes from now."""


class GitHubApp:
    """The App ``number``, installed as ``installation`` on the owner of ``repository`` (OWNER/NAME).

    ``key`` gives its private key in PEM at each use, and ``key_from`` says where that comes from. Called, it
    gives a token that is good for that repository alone, kept until a minute before its end.
    """

    def __init__(
        self,
        url: str,
        number: int,
        installation: int,
        key: Callable[[], str],
        *,
        key_from: str,
        repository: str,
        clock: Callable[[], datetime],
        transport: httpx.BaseTransport | None = None,
    ) -> None:
        self.number = number
        self._installation, self._key, self._key_from = installation, key, key_from
        self._repository, self._clock = repository.partition("/")[2], clock
        self._http = ForgeClient(
            url, self._jwt, token_from=key_from, headers=HEADERS, clock=clock, transport=transport
        )
        self._lock = threading.Lock()
        self._token, self._until = "", clock()

    def __call__(self) -> str:
        with self._lock:
            if self._clock() >= self._until:
                path = f"/app/installations/{self._installation}/access_tokens"
                answer = self._http.send("POST", path, {"repositories": [self._repository]})
                self._token = answer["token"]
                self._until = datetime.fromisoformat(answer["expires_at"]) - _EARLY
            return self._token

    @cached_property
    def login(self) -> str:
        """The account of what the App does."""
        return f"{self._http.get('/app')['slug']}[bot]"

    def _jwt(self) -> str:
        from cryptography.hazmat.primitives.asymmetric.padding import PKCS1v15
        from cryptography.hazmat.primitives.asymmetric.rsa import RSAPrivateKey
        from cryptography.hazmat.primitives.hashes import SHA256
        from cryptography.hazmat.primitives.serialization import load_pem_private_key

        try:
            key = load_pem_private_key(self._key().encode(), password=None)
        except (ValueError, TypeError):
            key = None
        if not isinstance(key, RSAPrivateKey):
            hint = "give the PEM file that GitHub made for the App, as it is"
            raise Terminal(f"{self._key_from} holds no private key of an App", hint=hint)
        now = self._clock()
        claims = {
            "iat": int((now - _EARLY).timestamp()),
            "exp": int((now + _LIFE).timestamp()),
            "iss": str(self.number),
        }
        signed = f"{_part({'alg': 'RS256', 'typ': 'JWT'})}.{_part(claims)}"
        return f"{signed}.{_encoded(key.sign(signed.encode(), PKCS1v15(), SHA256()))}"


def _part(content: dict[str, Any]) -> str:
    return _encoded(json.dumps(content, separators=(",", ":")).encode())


def _encoded(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()
