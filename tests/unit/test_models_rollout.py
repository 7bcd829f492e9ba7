"""A roll-out either ends with the new model live or with the old one and a reason."""

from __future__ import annotations

import base64
import random
import threading
from collections.abc import Callable
from pathlib import Path

import pytest

from agent.clock import SystemClock
from agent.errors import ModelError, RetryError
from agent.models import ModelStore, Pulse, Rollout, Runtime, keygen
from agent.wire import ModelUpdate
from tests.fakes.bundles import a_bundle, an_update

TRIAL_S = 0.05


class Agent:
    """A running agent as the roll-out sees it; a test decides how the new model behaves."""

    def __init__(self, folder: Path) -> None:
        self.running = folder / "configured"
        self.rehearsals: list[Path] = []
        self.refusal: ModelError | None = None
        self.before = Pulse(frames=1000, infer_s=40, served={"car": 900, "person": 100}, confidence=600)
        self.after = self.before
        self.classes_needed: tuple[str, ...] = ()
        self.stuck = False

    def rehearse(self, new: Path, current: Path) -> None:
        assert current == self.running
        self.rehearsals.append(new)
        if self.refusal:
            raise self.refusal

    def warm(self, path: Path) -> Callable[[], None]:
        assert path.exists()

        def switch() -> None:
            if self.stuck:
                raise TimeoutError("no frame came")
            self.running = path

        return switch

    def pulse(self) -> Pulse:
        return self.before if self.running.name == "configured" else self.after

    def runtime(self) -> Runtime:
        return Runtime(self.rehearse, self.warm, self.pulse, lambda: self.classes_needed)


class Site:
    """A device's folder with a key that it trusts."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.trusted = keygen(folder / "key.pem")
        a_bundle(folder / "configured", counter=1, model_id="configured")
        self.agent = Agent(folder)
        self.steps: list[str] = []
        self.start()

    def start(self) -> None:
        """The agent's process starts (again)."""
        self.store = ModelStore(self.folder / "models", self.folder / "configured")
        self.agent.running = self.store.open(lambda path: path)
        self.rollout = Rollout(
            self.store,
            self.agent.runtime(),
            trusted_keys=[self.trusted],
            trial_s=TRIAL_S,
            clock=SystemClock(),
            rng=random.Random(1),
        )

    def bundle(self, counter: int = 2, **facts: object) -> Path:
        return a_bundle(self.folder / f"made-{counter}", counter=counter, key=self.folder / "key.pem", **facts)  # type: ignore[arg-type]

    def roll_out(self, update: ModelUpdate, source: bytes, key: str = "cmd-1") -> dict[str, object]:
        def fetch(offset: int, length: int) -> bytes:
            return source[offset : offset + length]

        def report(step: str, _: float | None) -> None:
            if self.steps[-1:] != [step]:
                self.steps.append(step)

        return self.rollout.run(key, update, fetch, report)


@pytest.fixture
def site(tmp_path: Path) -> Site:
    return Site(tmp_path)


def file_of(bundle: Path) -> bytes:
    return (bundle / "model.onnx").read_bytes()


def test_a_good_model_goes_live_by_the_named_steps_and_the_old_file_is_kept(site: Site) -> None:
    bundle = site.bundle()
    result = site.roll_out(an_update(bundle), file_of(bundle))

    assert site.steps == ["downloading", "verified", "staged", "warmed", "active"]
    assert result == {"model_id": "tiny", "active": "2-tiny"}
    assert site.agent.running == site.store.active
    assert (site.folder / "configured/model.onnx").exists()
    assert site.store.pointer.trial is None


def test_what_is_not_signed_by_a_trusted_key_is_refused_before_a_byte_is_fetched(site: Site) -> None:
    bundle = site.bundle()
    update = an_update(bundle)
    strange = keygen(site.folder / "strange.pem")
    assert strange
    other = a_bundle(site.folder / "other", counter=2, key=site.folder / "strange.pem")

    for wrong, complaint in (
        (update.model_copy(update={"signature": ""}), "not signed"),
        (an_update(other), "none of the trusted keys"),
        (update.model_copy(update={"manifest": base64.b64encode(b"{}").decode()}), "none of the trusted keys"),
        (update.model_copy(update={"manifest": "?"}), "not base64"),
        (update.model_copy(update={"sha256": "0" * 64}), "another model than the manifest"),
    ):
        with pytest.raises(ModelError, match=complaint):
            site.roll_out(wrong, b"")
    assert site.steps == []
    assert site.agent.running.name == "configured"


def test_an_older_counter_is_refused(site: Site) -> None:
    newer, older = site.bundle(5), site.bundle(4)
    site.roll_out(an_update(newer), file_of(newer))

    with pytest.raises(ModelError, match="is not above 5"):
        site.roll_out(an_update(older), file_of(older), "cmd-2")
    assert site.agent.running.name == "5-tiny"


@pytest.mark.parametrize(
    ("damage", "complaint"),
    [
        (lambda content: content[:-10], "truncated"),
        (lambda content: content[:50] + bytes([content[50] ^ 1]) + content[51:], "another sha256"),
    ],
    ids=["truncated", "bit flipped"],
)
def test_a_damaged_download_leaves_the_old_model_and_can_be_repeated(
    site: Site, damage: Callable[[bytes], bytes], complaint: str
) -> None:
    bundle = site.bundle()
    with pytest.raises(ModelError, match=complaint):
        site.roll_out(an_update(bundle), damage(file_of(bundle)))
    assert site.agent.running.name == "configured"

    site.roll_out(an_update(bundle), file_of(bundle), "cmd-2")
    assert site.agent.running.name == "2-tiny"


def test_a_model_without_a_class_that_the_configuration_needs_is_refused(site: Site) -> None:
    site.agent.classes_needed = ("person", "face")
    bundle = site.bundle()

    with pytest.raises(ModelError, match="no class 'face'"):
        site.roll_out(an_update(bundle), file_of(bundle))


def test_a_model_that_fails_its_rehearsal_never_runs_and_leaves_nothing_behind(site: Site) -> None:
    site.agent.refusal = ModelError("golden frame 0: it misses class 1")
    bundle = site.bundle()

    with pytest.raises(ModelError, match="golden frame 0"):
        site.roll_out(an_update(bundle), file_of(bundle))
    assert site.agent.running.name == "configured"
    assert list((site.folder / "models/bundles").iterdir()) == []


def test_a_model_that_drifts_is_rolled_back_by_itself(site: Site) -> None:
    site.agent.after = Pulse(frames=100, infer_s=20, served={"car": 90, "person": 10}, confidence=60)
    bundle = site.bundle()

    with pytest.raises(ModelError, match="rolled back: it takes 200 ms a frame where the one before took 40"):
        site.roll_out(an_update(bundle), file_of(bundle))
    assert site.steps[-2:] == ["active", "rolled_back"]
    assert site.agent.running.name == "configured"


def test_the_operators_word_ends_a_trial(site: Site) -> None:
    bundle = site.bundle()
    site.agent.after = Pulse(frames=1)  # too few frames: the trial goes into overtime
    live = threading.Event()
    site.rollout._trial_s = 60
    recalled = threading.Thread(target=lambda: live.wait(10) and site.rollout.recall("cmd-2"))
    recalled.start()

    def report(step: str, _: float | None) -> None:
        if step == "active":
            live.set()

    with pytest.raises(ModelError, match="the operator's word"):
        site.rollout.run("cmd-1", an_update(bundle), lambda o, n: file_of(bundle)[o : o + n], report)
    recalled.join()
    assert site.agent.running.name == "configured"


def test_a_recall_is_carried_out_once(site: Site) -> None:
    for counter in (2, 3):
        bundle = site.bundle(counter)
        site.roll_out(an_update(bundle), file_of(bundle), f"cmd-{counter}")

    for _ in range(3):
        site.rollout.recall("cmd-9")
        site.start()
    assert site.agent.running.name == "2-tiny"


def test_a_recall_before_the_model_is_active_gives_the_update_up(site: Site) -> None:
    bundle = site.bundle()

    def fetch(offset: int, length: int) -> bytes:
        assert site.rollout.recall("cmd-2")["cancelled"]
        raise RetryError("the link is gone")

    with pytest.raises(ModelError, match="given up by the operator's word"):
        site.rollout.run("cmd-1", an_update(bundle), fetch, lambda *_: None)
    assert site.agent.running.name == "configured"


def test_the_agents_end_interrupts_a_trial_and_its_next_start_takes_it_up(site: Site) -> None:
    bundle = site.bundle()

    def report(step: str, _: float | None) -> None:
        if step == "active":
            site.rollout.close()

    with pytest.raises(RetryError):
        site.rollout.run("cmd-1", an_update(bundle), lambda o, n: file_of(bundle)[o : o + n], report)
    site.start()
    assert site.agent.running.name == "2-tiny"
    assert site.roll_out(an_update(bundle), b"must not be fetched again") == {"model_id": "tiny", "active": "2-tiny"}


def test_a_finished_roll_out_that_is_asked_for_again_answers_from_memory(site: Site) -> None:
    bundle = site.bundle()
    first = site.roll_out(an_update(bundle), file_of(bundle))
    site.start()

    assert site.roll_out(an_update(bundle), b"") == first
    assert len(site.agent.rehearsals) == 1


def test_a_model_that_cannot_be_switched_to_leaves_the_old_one(site: Site) -> None:
    bundle = site.bundle()

    site.agent.stuck = True
    with pytest.raises(ModelError, match="could not be switched to: no frame came"):
        site.roll_out(an_update(bundle), file_of(bundle))
    assert site.store.active.name == "configured"
