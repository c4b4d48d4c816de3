"""Who a request is from and what it may do. No HTTP and no SQL here.

A key's text is ``fr_<id>_<secret>``: 16 hexadecimal digits that name it, and 32 random bytes in URL-safe base64. Of
the secret only a salted BLAKE2b hash is kept. One round of a fast hash is right for it: slow hashes exist because
passwords can be guessed, while 256 random bits cannot, at whatever speed; and a slow one would cost every request.
The salt keeps equal secrets, in two copies of a database for instance, from having equal hashes.

Keys are looked up at every request, which costs microseconds, and nothing is cached: a key that one process revokes
is at once refused by all.
"""

from __future__ import annotations

import hashlib
import hmac
import math
import re
import secrets
from collections.abc import Iterable
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import NoReturn

from face_detection.gallery.coordination import ProcessRateLimits, RateLimits
from face_detection.gallery.directory import DEFAULT_TENANT, UNKNOWN_TENANT, ApiKey, Right, StoredKey
from face_detection.gallery.sql.directory import Directory
from shared.errors import Forbidden, InvalidRequest, NotFound, RateLimited, Unauthorized

_TEXT = re.compile(r"fr_([0-9a-f]{16})_([A-Za-z0-9_-]{43})")
_SECRET_BYTES = 32
_SALT_BYTES = hashlib.blake2b.SALT_SIZE
_HASH_BYTES = 32
_NOBODY = (bytes(_SALT_BYTES), bytes(_HASH_BYTES))
"""Salt and hash that the secret of an unknown key is compared with."""

_EVERYTHING = frozenset(Right)
_ANONYMOUS = frozenset({Right.RECOGNISE, Right.ENROL})

_NEEDS_KEY = "This needs an API key."
_NOT_VALID = "The API key is not valid."


@dataclass(frozen=True)
class Caller:
    """Whom a request is from.

    Attributes:
        tenant: who it belongs to: settings, keys and quotas are the tenant's.
        rights: what it may do there; ADMIN comes with the others.
        key: id of its API key, None when it has none.
        max_samples: samples up to which it may fill the gallery; None is unlimited.
        operator: whether it administers the whole installation.
        gallery: key of the gallery that it acts on: that of the default collection unless the request names another.
    """

    tenant: str
    rights: frozenset[Right]
    key: str | None = None
    max_samples: int | None = None
    operator: bool = False
    gallery: str = ""

    def __post_init__(self) -> None:
        if not self.gallery:
            object.__setattr__(self, "gallery", self.tenant)


def demand(caller: Caller, right: Right) -> None:
    """Refuse a caller without a right.

    Raises:
        Forbidden: its key does not grant it.
        Unauthorized: it has no key.
    """
    if right not in caller.rights:
        _refuse(caller, f"The API key lacks the right {right}.")


def demand_operator(caller: Caller) -> None:
    """Refuse a caller that does not administer the installation.

    Raises:
        Forbidden, Unauthorized: see ``demand``.
    """
    if not caller.operator:
        _refuse(caller, f"This needs an API key of the company {DEFAULT_TENANT} with the right {Right.ADMIN}.")


class Access:
    """Makes, checks and counts API keys. Safe between threads.

    While the installation has no key at all, everybody is its operator. From the first key on, who sends none is
    refused, unless ``allow_anonymous``: then they may recognise and enrol in the tenant ``default``, and in
    companies that have no keys of their own, but administer nothing.

    The operator is whoever has an ADMIN key of the tenant ``default``.

    Args:
        directory: where keys are kept.
        allow_anonymous: the setting.
        rates: where requests are counted; in this object when None.
    """

    def __init__(self, directory: Directory, allow_anonymous: bool, rates: RateLimits | None = None) -> None:
        self._directory = directory
        self._allow_anonymous = allow_anonymous
        self._rates = rates or ProcessRateLimits()

    def create_key(
        self,
        tenant: str,
        name: str,
        rights: Iterable[Right],
        *,
        requests_per_minute: int | None = None,
        max_samples: int | None = None,
        expires_at: datetime | None = None,
    ) -> tuple[ApiKey, str]:
        """Make a key, see ``ApiKey``; returns it and its text, which cannot be had again.

        Raises:
            NotFound: there is no such tenant.
            InvalidRequest: a value is not allowed, or the time of expiry has passed.
            Conflict: the tenant has too many keys.
            StorageError: see ``Directory``.
        """
        now = datetime.now(UTC)
        key = ApiKey(
            secrets.token_hex(8), tenant, name, frozenset(rights), now, requests_per_minute, max_samples, expires_at
        )
        if expires_at is not None and expires_at <= now:
            raise InvalidRequest("The time of expiry has passed.")
        secret, salt, hash = _new_secret()
        self._directory.add_key(StoredKey(key, salt, hash))
        return key, f"fr_{key.id}_{secret}"

    def rotate_key(self, tenant: str, id: str) -> tuple[ApiKey, str]:
        """Give a key a new secret and keep the rest; returns it and its new text. The former text is void at once.

        Raises:
            NotFound: the tenant has no such key.
            Conflict: it was revoked.
            StorageError: see ``Directory``.
        """
        secret, salt, hash = _new_secret()
        key = self._directory.replace_secret(tenant, id, salt, hash)
        return key, f"fr_{id}_{secret}"

    def protected(self) -> bool:
        """Whether the installation has a key, so that not everybody is its operator."""
        return self._directory.any_key()

    def authenticate(self, text: str | None) -> Caller:
        """Whom a request is from that sends this key, or None for none.

        Raises:
            Unauthorized: the key is not valid (also where none is needed), or one is needed.
            RateLimited: the key has had its requests.
            StorageError: see ``Directory``.
        """
        if text is not None:
            return self._holder(text)
        if not self._directory.any_key():
            return Caller(DEFAULT_TENANT, _EVERYTHING, operator=True)
        if not self._allow_anonymous:
            raise Unauthorized(_NEEDS_KEY)
        return Caller(DEFAULT_TENANT, _ANONYMOUS)

    def in_company(self, caller: Caller, tenant: str) -> Caller:
        """The same caller for a request that names the tenant which it acts on: the caller's own, unless an operator's.

        Raises:
            NotFound: there is no such tenant, or the key is another tenant's, who learns no difference.
            Unauthorized: there is no key, and the tenant has some or does not exist.
            StorageError: see ``Directory``.
        """
        if caller.key is None and not caller.operator:
            if self._directory.any_key(tenant) or not self._exists(tenant):
                raise Unauthorized(_NEEDS_KEY)
            return Caller(tenant, _ANONYMOUS)
        if caller.tenant == tenant:
            return caller
        if not caller.operator:
            raise NotFound(UNKNOWN_TENANT)
        self._directory.tenant(tenant)
        return replace(caller, tenant=tenant, gallery=tenant)

    def _exists(self, tenant: str) -> bool:
        try:
            self._directory.tenant(tenant)
        except NotFound:
            return False
        return True

    def _holder(self, text: str) -> Caller:
        form = _TEXT.fullmatch(text)
        if form is None:
            raise Unauthorized(_NOT_VALID)
        id, secret = form.groups()
        stored = self._directory.find_key(id)
        # An unknown key takes as long as a known one with a wrong secret.
        salt, expected = (stored.salt, stored.hash) if stored else _NOBODY
        matches = hmac.compare_digest(_hash(secret, salt), expected)
        if not matches or stored is None or not _is_active(stored.key):
            raise Unauthorized(_NOT_VALID)
        key = stored.key
        self._count(key)
        is_admin = Right.ADMIN in key.rights
        return Caller(
            key.tenant,
            _EVERYTHING if is_admin else key.rights,
            key.id,
            key.max_samples,
            operator=is_admin and key.tenant == DEFAULT_TENANT,
        )

    def _count(self, key: ApiKey) -> None:
        if key.requests_per_minute is None:
            return
        seconds = self._rates.hit(key.id, key.requests_per_minute)
        if seconds is not None:
            raise RateLimited(
                f"The API key allows {key.requests_per_minute} requests per minute.", max(1, math.ceil(seconds))
            )


def _refuse(caller: Caller, message: str) -> NoReturn:
    raise Forbidden(message) if caller.key else Unauthorized(_NEEDS_KEY)


def _is_active(key: ApiKey) -> bool:
    return key.revoked_at is None and (key.expires_at is None or datetime.now(UTC) < key.expires_at)


def _new_secret() -> tuple[str, bytes, bytes]:
    """A secret, a salt and their hash."""
    secret, salt = secrets.token_urlsafe(_SECRET_BYTES), secrets.token_bytes(_SALT_BYTES)
    return secret, salt, _hash(secret, salt)


def _hash(secret: str, salt: bytes) -> bytes:
    return hashlib.blake2b(secret.encode(), salt=salt, digest_size=_HASH_BYTES).digest()
