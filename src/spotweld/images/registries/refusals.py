"""What a registry means when it says no: a status and a JSON body become what happened, why, and what to do."""

from __future__ import annotations

import json
import ssl
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

import msgspec

from spotweld.errors import ImageDamaged, ImageError, ImageNotFound, RegistryFull, RegistryRefused, RegistryUnavailable

if TYPE_CHECKING:
    from http.client import HTTPException

_FULL = ("no space left", "disk quota exceeded", "insufficient storage", '"err":28', '"err":122')
"""How servers tell that their disk is full; the numbers are errno's, in what docker-registry answers."""


class Answer(msgspec.Struct, frozen=True):
    """What a registry answered, whole."""

    status: int
    headers: dict[str, str]
    """By lower-case name."""
    body: bytes
    user: str | None = None
    """As whom the registry was asked: the account's name, or an empty one of a token; None: as nobody."""


def is_full(answer: Answer) -> bool:
    """Whether it says that there is no space left."""
    text = answer.body[:4000].decode(errors="replace").lower().replace(" ", "")
    return answer.status == 507 or any(mark.replace(" ", "") in text for mark in _FULL)


def refusal(answer: Answer, doing: str, where: str) -> ImageError:
    """The error that an answer stands for.

    Args:
        answer: of a status that is no success.
        doing: the verb, as in "Cannot push to".
        where: the registry, with the repository or more.
    """
    host = urlsplit(where).netloc.partition(" ")[0]
    what, why = f"Cannot {doing} {where}", _reason(answer)
    kept = "What has arrived is kept; try again when that is done."
    if is_full(answer):
        return RegistryFull(what, f"the registry is full ({why})", f"Free some space there. {kept}")
    match answer.status:
        case 401 | 403:
            return _unauthorized(answer, what, why, host)
        case 404:
            todo = "Look at the spelling; some registries want a repository to be created before the first push."
            return ImageNotFound(what, why, todo)
        case 405:
            why = f"the registry does not allow it: it is read-only, a mirror, or does not delete ({why})"
            todo = "Use another registry, or have writing or deletion (storage.delete.enabled) allowed in this one."
            return RegistryRefused(what, why, todo)
        case 413:
            why = f"the registry, or a proxy before it, takes no upload of that size ({why})"
            return RegistryRefused(what, why, "Raise its limit (nginx: client_max_body_size), or make smaller layers.")
        case 429:
            return RegistryUnavailable(what, f"it was asked too often ({why})", "Wait; an account often has more.")
        case status if status >= 500:
            return RegistryUnavailable(what, why, f"Look at the registry's own log. {kept}")
    if "BLOB_UNKNOWN" in why:
        return ImageDamaged(what, f"a blob that the manifest names is not there ({why})", "Copy the whole image again.")
    return RegistryRefused(what, why, "Look at the registry's own log.")


def _unauthorized(answer: Answer, what: str, why: str, host: str) -> RegistryRefused:
    """Missing credentials, wrong ones, or those of an account without the right: three errors with three ways out."""
    user = answer.user
    known = "insufficient_scope" in answer.headers.get("www-authenticate", "")
    if answer.status == 401 and user is None:
        why = f"it asks for credentials, and nobody has logged in to {host} here ({why})"
        return RegistryRefused(what, why, f"Log in first: docker login {host}  (or: buildah login {host})")
    if answer.status == 401 and not known:
        why = f"the password{f' of {user}' if user else ''} is wrong or has expired ({why})"
        return RegistryRefused(what, why, f"Log in again: docker login {host}  (or: buildah login {host})")
    why = f"{f'the account {user}' if user else 'this account'} may not do that ({why})"
    return RegistryRefused(what, why, f"Ask for the right, or log in as somebody else: docker login {host}")


def is_final(error: OSError | HTTPException) -> bool:
    """Whether the two sides cannot speak with each other, rather than the connection having broken."""
    broken = (ssl.SSLEOFError, ssl.SSLZeroReturnError, ssl.SSLSyscallError)
    return isinstance(error, ssl.SSLError) and not isinstance(error, broken)


def unreachable(where: str, error: OSError | HTTPException) -> ImageError:
    """The error about a registry that does not answer at all."""
    what = f"Cannot reach the registry {where}"
    if isinstance(error, ssl.SSLCertVerificationError):
        todo = "Add its authority to the system's, or name a bundle that has it in SSL_CERT_FILE."
        return RegistryRefused(what, f"its certificate is not trusted: {error.verify_message}", todo)
    if is_final(error):
        todo = f"If it speaks plain HTTP, write http://{urlsplit(where).netloc}."
        return RegistryRefused(what, f"it does not speak TLS as we do: {error}", todo)
    todo = "Look whether it runs, and at the network; what has arrived there is kept."
    return RegistryUnavailable(what, str(error) or type(error).__name__, todo)


def _reason(answer: Answer) -> str:
    """What the server says, in one line."""
    said = ""
    try:
        errors = json.loads(answer.body)["errors"]
        said = "; ".join(f"{error.get('code', '')} {error.get('message', '')}".strip() for error in errors)
    except (ValueError, TypeError, KeyError, AttributeError):
        text = answer.body[:200].decode(errors="replace").strip()
        said = "" if "<" in text else text
    return f"HTTP {answer.status}: {said}"[:300] if said else f"HTTP {answer.status}"
