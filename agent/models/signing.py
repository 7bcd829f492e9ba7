"""Who may say which model a device runs: ed25519 keys (RFC 8032), and signatures over a manifest's exact bytes.

Cryptography is imported where it is used: a device that gets no model does without its 7 MB.
"""

from __future__ import annotations

import base64
import binascii
import os
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from agent import durable
from agent.bundle import MANIFEST_FILE, SIGNATURE_FILE, read_bundle
from agent.errors import ModelError

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey


def keygen(path: Path) -> str:
    """Write a new private key (PEM, readable by its owner only) and return the public key for `model.trusted_keys`.

    Raises ModelError where the file exists: a key that is overwritten leaves a fleet that trusts nobody.
    """
    from cryptography.hazmat.primitives import serialization
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

    key = Ed25519PrivateKey.generate()
    try:
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
    except FileExistsError:
        raise ModelError(f"{path} exists already", remedy="name a new file, or move that key away first") from None
    except OSError as error:
        raise ModelError(f"{path}: {error.strerror}", remedy="name a file in a folder you can write to") from None
    with open(descriptor, "wb") as file:
        file.write(
            key.private_bytes(
                serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
            )
        )
        file.flush()
        os.fsync(file.fileno())
    durable.sync_folder(path.parent)
    return _public_text(key.public_key())


def sign(folder: Path, key_file: Path) -> str:
    """Verify the bundle in `folder`, write ``manifest.sig`` beside its manifest, return the public key."""
    bundle = read_bundle(folder)
    if bundle.manifest is None:
        raise ModelError(f"{folder} is a bare ONNX", remedy="make a bundle with `tailkeeper model export`")
    key = _private_key(key_file)
    signature = key.sign((folder / MANIFEST_FILE).read_bytes())
    durable.write(folder / SIGNATURE_FILE, base64.b64encode(signature) + b"\n", mode=0o644)
    return _public_text(key.public_key())


def verify(manifest: bytes, signature: str, trusted: Sequence[str]) -> str:
    """The trusted key (base64) whose signature over these bytes it is; raises ModelError for any other."""
    if not trusted:
        raise ModelError("no key is trusted", remedy="list the public key in model.trusted_keys of the device")
    if not signature:
        raise ModelError("the manifest is not signed", remedy="sign the bundle with `tailkeeper model sign`")
    from cryptography.exceptions import InvalidSignature
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

    raw = _decode(signature, "signature")
    for text in trusted:
        try:
            Ed25519PublicKey.from_public_bytes(_decode(text, "trusted key")).verify(raw, manifest)
        except (InvalidSignature, ValueError):
            continue
        return text
    raise ModelError(
        "the manifest's signature is of none of the trusted keys", remedy="sign it with a key of model.trusted_keys"
    )


def _decode(text: str, what: str) -> bytes:
    try:
        return base64.b64decode(text.strip(), validate=True)
    except (binascii.Error, ValueError):
        raise ModelError(f"the {what} is not base64", remedy="copy it whole, as it was printed") from None


def _private_key(path: Path) -> Ed25519PrivateKey:
    from cryptography.hazmat.primitives import serialization
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

    try:
        key = serialization.load_pem_private_key(path.read_bytes(), password=None)
    except OSError as error:
        raise ModelError(f"{path}: {error.strerror}", remedy="make a key with `tailkeeper model keygen`") from None
    except (ValueError, TypeError):
        key = None
    if not isinstance(key, Ed25519PrivateKey):
        raise ModelError(f"{path} holds no ed25519 private key", remedy="make one with `tailkeeper model keygen`")
    return key


def _public_text(key: Ed25519PublicKey) -> str:
    return base64.b64encode(key.public_bytes_raw()).decode()
