"""The model store: whatever happens, the next start finds a working model."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from agent.bundle import MANIFEST_FILE, SIGNATURE_FILE, Manifest, read_bundle
from agent.errors import ModelError
from agent.models import ModelStore, Pulse, Trial
from agent.models.store import STARTS_IN_TRIAL
from tests.fakes.bundles import a_bundle


@pytest.fixture
def store(tmp_path: Path) -> ModelStore:
    return reopened(tmp_path)


def reopened(folder: Path) -> ModelStore:
    """The store as a new process finds it."""
    configured = folder / "configured"
    if not configured.exists():
        a_bundle(configured, counter=1, model_id="configured")
    return ModelStore(folder / "models", configured)


def staged(store: ModelStore, tmp_path: Path, counter: int) -> str:
    made = a_bundle(tmp_path / f"made-{counter}", counter=counter)
    manifest = read_bundle(made).manifest
    assert manifest
    staging = store.staging(manifest.sha256)
    shutil.copy(made / "model.onnx", staging)
    return store.stage(staging, (made / MANIFEST_FILE).read_bytes(), "signature")


def read_manifest(bundle: Path) -> Manifest:
    return Manifest.model_validate_json((bundle / MANIFEST_FILE).read_bytes())


def load(path: Path) -> str:
    return read_bundle(path).model_id


def test_without_a_roll_out_the_configured_model_runs(store: ModelStore) -> None:
    assert store.open(load) == "configured"


def test_an_activated_bundle_runs_after_a_restart_and_the_one_before_is_kept(store: ModelStore, tmp_path: Path) -> None:
    for counter in (2, 3, 4):
        store.activate(staged(store, tmp_path, counter), Trial(key=str(counter), baseline=Pulse()))
        store.settle()

    store = reopened(tmp_path)
    assert store.active.name == "4-tiny"
    assert sorted(path.name for path in (tmp_path / "models/bundles").iterdir()) == ["3-tiny", "4-tiny"]
    assert (store.active / SIGNATURE_FILE).read_text() == "signature"


def test_a_roll_back_takes_the_kept_file_and_then_the_configured_one(store: ModelStore, tmp_path: Path) -> None:
    store.activate(staged(store, tmp_path, 2))
    store.activate(staged(store, tmp_path, 3))

    assert store.roll_back("the operator's word").name == "2-tiny"
    assert store.roll_back("the operator's word").name == "configured"
    with pytest.raises(ModelError, match="the configured model is active"):
        store.roll_back("the operator's word")


def test_a_model_that_was_ever_active_is_not_accepted_again_nor_an_older_one(store: ModelStore, tmp_path: Path) -> None:
    store.activate(staged(store, tmp_path, 5))
    store.roll_back("drift")

    for counter in (1, 4, 5):
        manifest = read_manifest(a_bundle(tmp_path / f"again-{counter}", counter=counter))
        with pytest.raises(ModelError, match="is not above 5"):
            reopened(tmp_path).check_counter(manifest)
    store.check_counter(read_manifest(a_bundle(tmp_path / "newer", counter=6)))


def test_the_configured_bundles_own_counter_counts_too(store: ModelStore, tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="is not above 1"):
        store.check_counter(read_manifest(a_bundle(tmp_path / "same", counter=1)))


def test_a_model_that_cannot_be_loaded_is_rolled_back_at_the_start_and_says_why(
    store: ModelStore, tmp_path: Path
) -> None:
    store.activate(staged(store, tmp_path, 2), Trial(key="cmd-1", baseline=Pulse()))
    model = store.active / "model.onnx"
    model.write_bytes(model.read_bytes()[:-3])

    store = reopened(tmp_path)
    assert store.open(load) == "configured"
    outcome = store.outcome("cmd-1")
    assert outcome
    assert "cannot be loaded" in outcome.reason


def test_a_damaged_kept_model_is_passed_over(store: ModelStore, tmp_path: Path) -> None:
    store.activate(staged(store, tmp_path, 2))
    store.activate(staged(store, tmp_path, 3))
    for name in ("2-tiny", "3-tiny"):
        (store.bundle(name) / "model.onnx").write_bytes(b"gone")

    assert reopened(tmp_path).open(load) == "configured"


def test_a_crash_loop_within_the_trial_ends_with_the_model_before(store: ModelStore, tmp_path: Path) -> None:
    store.activate(staged(store, tmp_path, 2), Trial(key="cmd-1", baseline=Pulse()))

    names = [reopened(tmp_path).open(load) for _ in range(STARTS_IN_TRIAL + 2)]
    assert names == ["tiny"] * STARTS_IN_TRIAL + ["configured"] * 2
    outcome = reopened(tmp_path).outcome("cmd-1")
    assert outcome
    assert "crash loop" in outcome.reason


def test_starts_after_the_trial_are_not_counted(store: ModelStore, tmp_path: Path) -> None:
    store.activate(staged(store, tmp_path, 2), Trial(key="cmd-1", baseline=Pulse()))
    store.settle()

    assert {reopened(tmp_path).open(load) for _ in range(STARTS_IN_TRIAL * 2)} == {"tiny"}


def test_the_configured_model_that_is_missing_stops_the_agent(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="no model"):
        ModelStore(tmp_path / "models", tmp_path / "nowhere").open(load)


def test_a_pointer_that_cannot_be_read_means_the_configured_model(store: ModelStore, tmp_path: Path) -> None:
    store.activate(staged(store, tmp_path, 2))
    (tmp_path / "models/pointer.json").write_text("{")

    assert reopened(tmp_path).open(load) == "configured"
    assert (tmp_path / "models/pointer.json.bad").exists()


def test_the_listing_says_which_model_is_what(store: ModelStore, tmp_path: Path) -> None:
    store.activate(staged(store, tmp_path, 2))
    store.activate(staged(store, tmp_path, 3))

    rows = [(row["model_id"], row["counter"], row["role"]) for row in store.listing()]
    assert rows == [("configured", 1, "configured"), ("tiny", 2, "previous"), ("tiny", 3, "active")]


def test_a_download_of_another_model_deletes_what_was_left_of_the_one_before(store: ModelStore) -> None:
    first = store.staging("a" * 64)
    (first / "model.onnx").write_bytes(b"half")

    assert store.staging("a" * 64) == first
    assert (first / "model.onnx").exists()
    store.staging("b" * 64)
    assert not first.exists()
