"""Any rollout: verdicts, people and crashes between any two writes, in any order.

Every write to the ledger, the target and the registry counts; a test kills the process before or after the n-th of
them, and everybody goes on from what stands. The target is in memory and keeps the order of what it was told.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any
from unittest import mock

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from airflow_mlops.core.errors import MlopsError
from airflow_mlops.core.ledger.record import verify_chain
from airflow_mlops.core.ports.rollout_target import TargetError, Traffic
from airflow_mlops.core.rollout import run_analysis
from airflow_mlops.core.rollout import watch_rollout as watch_module
from airflow_mlops.core.rollout.control_rollout import approve_stage, control_rollout
from airflow_mlops.core.rollout.reconcile_aliases import reconcile
from airflow_mlops.core.rollout.reconcile_target import wanted_traffic
from airflow_mlops.core.rollout.roll_out import run_rollout_step, start_rollout
from airflow_mlops.core.rollout.verdict import StageVerdict
from airflow_mlops.core.rollout.watch_rollout import watch_rollout
from airflow_mlops.core.workspace import Workspace
from airflow_mlops.testing.in_memory import in_memory_workspace
from airflow_mlops.testing.in_memory_registry import InMemoryRegistry, KeptVersion
from airflow_mlops.testing.in_memory_target import InMemoryTarget
from tests.unit.core.ledger.histories import History, week
from tests.unit.core.toy_loop import toy_loop

STAGES = [{"shadow": 100}, {"canary": 10}, {"canary": 50, "approval": "human"}, {"live": 100}]
VERDICTS = st.sampled_from(["pass", "pass", "pass", "pass", "inconclusive", "fail"])
CRASHES = st.one_of(st.none(), st.integers(0, 9), st.integers(10, 30))


class CrashedError(BaseException):
    """The process was killed."""


class Clockwork:
    """Counts writes, and kills the process before or after a given one."""

    def __init__(self) -> None:
        self.left: int | None = None

    def tick(self) -> None:
        if self.left is None:
            return
        if self.left == 0:
            self.left = None
            raise CrashedError
        self.left -= 1

    def around(self, write: Callable[..., Any]) -> Callable[..., Any]:
        def written(*args: Any, **kwargs: Any) -> Any:
            self.tick()
            result = write(*args, **kwargs)
            self.tick()
            return result

        return written


class AnyRollout(RuleBasedStateMachine):
    """A state machine of one model, its gateway, and the people and runs that change its rollouts."""

    @initialize()
    def begin(self) -> None:
        self.target, self.clockwork, self.registered, self.week = InMemoryTarget(), Clockwork(), 1, 3
        self.verdicts: list[str] = []
        self.exposed_at_failure: dict[str, tuple[int, float]] = {}
        self.stale: list[Traffic] = []
        loop = toy_loop(rollout={"target": "gateway", "stages": STAGES})
        opened = in_memory_workspace(loop, {}, scratch=Path("nothing-is-written"))
        self.workspace = Workspace(
            loop, opened.root, opened.scratch, replace(opened.ports, target=lambda _: self.target), "person:ann"
        )
        registry = self.workspace.registry
        assert isinstance(registry, InMemoryRegistry)
        registry.versions += [KeptVersion(f"op{number}", b"", None) for number in range(40)]  # type: ignore[arg-type]
        History(self.workspace.ledger).publish(*range(4)).promote(2, "1")
        reconcile(self.workspace)
        for owner, name in (
            (self.workspace.ledger, "append"),
            (self.target, "apply"),
            (self.target, "rollback"),
            (self.target, "prepare"),
            (self.target, "finalize"),
            (registry, "set_alias"),
        ):
            setattr(owner, name, self.clockwork.around(getattr(owner, name)))

    def does(self, crash: int | None, work: Callable[[], object]) -> None:
        """Call an action that may be refused, or killed at a write."""
        self.stale.append(wanted_traffic(self.workspace.loop, self.workspace.state()))
        self.clockwork.left = crash
        scripted = mock.patch.object(run_analysis, "analyse_stage", self.next_verdict)
        broken = mock.patch.object(run_analysis, "plain_failure", return_value=None)
        also = mock.patch.object(watch_module, "plain_failure", return_value=None)
        try:
            with scripted, broken, also:
                work()
        except (MlopsError, CrashedError):
            pass  # told, or dead: what stands is looked at below
        finally:
            self.clockwork.left = None
        self.note_failures()

    def next_verdict(self, *_: object) -> StageVerdict:
        verdict: Any = self.verdicts.pop(0) if self.verdicts else "inconclusive"
        return StageVerdict(verdict, "as written", 1, look=1)

    def note_failures(self) -> None:
        """Store the exposure of each version at the time of its recorded failure."""
        for record in list(self.workspace.ledger.records()):
            failed = record.kind == "rolled_back" or (
                record.kind == "stage_analysed" and record.details.verdict == "fail"
            )
            if failed:
                served = self.target.history
                now = served[-1].exposed if served and served[-1].challenger == record.details.version else 0.0
                self.exposed_at_failure.setdefault(str(record.details.version), (len(served), now))

    # --- what happens -------------------------------------------------------------------------------------------

    def a_candidate_comes(self) -> None:
        self.registered += 1
        self.week += 1
        History(self.workspace.ledger).publish(self.week).register(self.week, str(self.registered))

    @rule(verdicts=st.lists(VERDICTS, min_size=1, max_size=4), crash=CRASHES)
    def the_dag_runs(self, verdicts: list[str], crash: int | None) -> None:
        self.verdicts = verdicts
        if self.workspace.state().in_flight is None:
            self.a_candidate_comes()

        def work() -> None:
            version = start_rollout(self.workspace, week(self.week))
            for index in range(len(STAGES)):
                run_rollout_step(self.workspace, version, index, week(self.week))

        self.does(crash, work)

    @precondition(lambda self: self.workspace.state().rollout is not None)
    @rule(index=st.integers(0, 3), verdict=VERDICTS, crash=CRASHES)
    def one_task_is_cleared(self, index: int, verdict: str, crash: int | None) -> None:
        self.verdicts = [verdict]
        version = str(self.registered)
        self.does(crash, lambda: run_rollout_step(self.workspace, version, index, week(self.week)))

    @precondition(lambda self: self.workspace.state().rollout is not None)
    @rule(action=st.sampled_from(["pause", "resume", "resume", "skip", "abort"]), crash=CRASHES)
    def a_person_acts(self, action: str, crash: int | None) -> None:
        self.does(crash, lambda: control_rollout(self.workspace, action, reason="said so"))

    @precondition(lambda self: self.workspace.state().rollout is not None)
    @rule(crash=CRASHES)
    def a_person_approves(self, crash: int | None) -> None:
        self.does(crash, lambda: approve_stage(self.workspace, 2, ("ben",)))

    @rule(crash=CRASHES)
    def the_watch_runs(self, crash: int | None) -> None:
        self.does(crash, lambda: watch_rollout(self.workspace, week(self.week)))

    @rule(method=st.sampled_from(["apply", "rollback", "prepare", "observe"]), after=st.booleans())
    def the_target_fails_once(self, method: Any, after: bool) -> None:
        self.target.fail_next(method, TargetError("no route"), after=after)

    @precondition(lambda self: self.stale != [])
    @rule()
    def a_worker_thought_dead_applies_what_it_knew(self) -> None:
        newest = self.target._traffic
        for old in self.stale:
            if old.order < newest.order:
                self.does(None, lambda old=old: self.target.apply(old))  # type: ignore[misc]
        assert self.target._traffic == newest

    @rule()
    def everything_answers_again_and_the_watch_runs(self) -> None:
        for method in ("apply", "rollback", "prepare", "observe"):
            for fault in self.target._faults.get(method, []):
                fault.times = 0
        self.does(None, lambda: watch_rollout(self.workspace, week(self.week)))
        state = self.workspace.state()
        served = self.target.observe()
        assert served.serves_like(wanted_traffic(self.workspace.loop, state))
        if state.rollout is None:
            assert served.challenger is None
        assert served.champion is not None
        assert served.champion not in state.quarantined
        pointers = self.workspace.registry.aliases()
        assert pointers["champion"] == served.champion

    # --- what is always so --------------------------------------------------------------------------------------

    @invariant()
    def there_is_always_a_champion_and_it_serves(self) -> None:
        champion = self.workspace.state().champion
        assert champion is not None
        assert champion.number not in self.workspace.state().quarantined
        assert all(traffic.champion is not None for traffic in self.target.history)

    @invariant()
    def traffic_never_rises_after_a_failure(self) -> None:
        for version, (came_to, exposed) in self.exposed_at_failure.items():
            later = [each for each in self.target.history[came_to:] if each.challenger == version]
            assert all(each.exposed <= exposed for each in later), (version, later)
            assert all(each.champion != version for each in self.target.history[came_to:]) or self.is_champion(version)

    def is_champion(self, version: str) -> bool:
        return self.workspace.state().was_champion(version)

    @invariant()
    def a_version_never_goes_live_without_having_passed_or_been_let_through(self) -> None:
        records = list(self.workspace.ledger.records())
        for promoted in (each for each in records if each.kind == "promoted" and each.details.version != "1"):
            number = promoted.details.version
            own = [each for each in records if getattr(each.details, "version", None) == number]
            through = {
                each.details.stage
                for each in own
                if each.kind == "stage_skipped" or (each.kind == "stage_analysed" and each.details.verdict == "pass")
            }
            assert {0, 1, 2} <= through
            assert any(each.kind == "stage_approved" for each in own)
            assert not any(each.kind == "stage_analysed" and each.details.verdict == "fail" for each in own)

    @invariant()
    def one_version_at_a_time_is_rolled_out_and_the_chain_holds(self) -> None:
        verify_chain(list(self.workspace.ledger.records()))
        open_: set[str] = set()
        for record in list(self.workspace.ledger.records()):
            if record.kind == "rollout_started":
                open_.add(record.details.version)
            if record.kind in ("promoted", "rolled_back"):
                open_.discard(record.details.version)
            assert len(open_) <= 1


class TestInAnyOrder(AnyRollout.TestCase):  # type: ignore[misc]
    settings = settings(
        max_examples=60,
        stateful_step_count=25,
        suppress_health_check=[*settings.default.suppress_health_check, HealthCheck.filter_too_much],
    )


def run_with(verdicts: list[str], crash: int | None) -> AnyRollout:
    """Return the state of a rollout whose run was killed at a write, before a retry."""
    machine = AnyRollout()
    machine.begin()
    machine.does(None, machine.a_candidate_comes)
    machine.verdicts = verdicts
    machine.does(crash, lambda: through_the_stages(machine))
    return machine


def through_the_stages(machine: AnyRollout) -> None:
    """Run the rollout as its Dag does, with the approvals that it needs."""
    version = start_rollout(machine.workspace, week(machine.week))
    for index in range(len(STAGES)):
        if index == 2:
            approve_stage(machine.workspace, index, ("ben",), version=version)
        run_rollout_step(machine.workspace, version, index, week(machine.week))


def writes_of(verdicts: list[str]) -> int:
    """Count the points before and after writes in a run that is not killed."""
    machine = AnyRollout()
    machine.begin()
    machine.a_candidate_comes()
    machine.verdicts = list(verdicts)
    machine.clockwork.left = 10_000
    with suppress(MlopsError), mock.patch.object(run_analysis, "analyse_stage", machine.next_verdict):
        through_the_stages(machine)
    assert machine.clockwork.left is not None
    return 10_000 - machine.clockwork.left


@pytest.mark.parametrize("verdicts", [["fail"], ["pass", "fail"], ["pass", "pass", "fail"]])
def test_a_failure_stands_at_whichever_write_the_process_was_killed(verdicts: list[str]) -> None:
    count = writes_of(verdicts)
    assert count > 10 * len(verdicts)
    failed = 0
    for crash in range(count):
        machine = run_with(list(verdicts), crash)
        stood = [
            each.details.verdict for each in list(machine.workspace.ledger.records()) if each.kind == "stage_analysed"
        ]
        # Whoever comes next would see nothing but good looks.
        for _ in range(3):
            machine.verdicts = ["pass"] * 9
            machine.does(None, lambda machine=machine: through_the_stages(machine))  # type: ignore[misc]
            machine.traffic_never_rises_after_a_failure()
            machine.a_version_never_goes_live_without_having_passed_or_been_let_through()
        machine.everything_answers_again_and_the_watch_runs()
        if "fail" in stood:
            failed += 1
            assert machine.target.observe().champion == "1", crash
            assert "2" in machine.workspace.state().quarantined, crash
    assert failed >= 4


def test_a_good_challenger_goes_live_at_whichever_write_the_process_was_killed() -> None:
    count = writes_of(["pass"] * 3)
    for crash in range(count):
        machine = run_with(["pass"] * 3, crash)
        machine.there_is_always_a_champion_and_it_serves()
        for _ in range(2):
            machine.verdicts = ["pass"] * 3
            machine.does(None, lambda machine=machine: through_the_stages(machine))  # type: ignore[misc]
        machine.everything_answers_again_and_the_watch_runs()
        assert machine.target.observe().champion == "2", crash
        assert len(machine.workspace.state().promotions) == 2, crash
