"""Only who holds the key can say which model runs."""

from __future__ import annotations

from pathlib import Path

import pytest

from agent.bundle import MANIFEST_FILE, SIGNATURE_FILE
from agent.errors import ModelError
from agent.models import keygen, sign, verify
from tests.fakes.bundles import a_bundle


def test_a_signed_manifest_verifies_with_the_public_key_that_keygen_printed(tmp_path: Path) -> None:
    public = keygen(tmp_path / "key.pem")
    bundle = a_bundle(tmp_path / "bundle")

    assert sign(bundle, tmp_path / "key.pem") == public
    manifest, signature = (bundle / MANIFEST_FILE).read_bytes(), (bundle / SIGNATURE_FILE).read_text()
    assert verify(manifest, signature, ["", public]) == public


def test_one_changed_byte_of_the_manifest_breaks_the_signature(tmp_path: Path) -> None:
    public = keygen(tmp_path / "key.pem")
    bundle = a_bundle(tmp_path / "bundle", key=tmp_path / "key.pem")
    manifest = (bundle / MANIFEST_FILE).read_bytes()

    with pytest.raises(ModelError, match="none of the trusted keys"):
        verify(manifest.replace(b"tiny", b"tinY"), (bundle / SIGNATURE_FILE).read_text(), [public])


def test_another_key_no_key_and_no_signature_are_refused_with_the_remedy(tmp_path: Path) -> None:
    keygen(tmp_path / "key.pem")
    other = keygen(tmp_path / "other.pem")
    bundle = a_bundle(tmp_path / "bundle", key=tmp_path / "key.pem")
    manifest, signature = (bundle / MANIFEST_FILE).read_bytes(), (bundle / SIGNATURE_FILE).read_text()

    for text, trusted, complaint in (
        (signature, [other], "none of the trusted keys"),
        (signature, [], "model.trusted_keys"),
        ("", [other], "not signed"),
        ("*", [other], "base64"),
    ):
        with pytest.raises(ModelError, match=complaint):
            verify(manifest, text, trusted)


def test_a_private_key_is_its_owners_alone_and_never_overwritten(tmp_path: Path) -> None:
    keygen(tmp_path / "key.pem")

    assert (tmp_path / "key.pem").stat().st_mode & 0o777 == 0o600
    with pytest.raises(ModelError, match="exists already"):
        keygen(tmp_path / "key.pem")


def test_signing_refuses_a_bundle_that_is_damaged_and_a_file_that_is_no_key(tmp_path: Path) -> None:
    keygen(tmp_path / "key.pem")
    bundle = a_bundle(tmp_path / "bundle")
    (tmp_path / "noise").write_bytes(b"noise")

    with pytest.raises(ModelError, match="no ed25519 private key"):
        sign(bundle, tmp_path / "noise")
    with (bundle / "model.onnx").open("ab") as file:
        file.write(b"\0")
    with pytest.raises(ModelError, match="size or sha256 differ"):
        sign(bundle, tmp_path / "key.pem")
