"""The actions that a person can take on the page of a model: what each will do, and whether it can be done now."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

from airflow_mlops.core.errors import DataError, DeclarationError
from airflow_mlops.core.ledger.state import LoopState
from airflow_mlops.core.replay.policy_names import POLICIES, policy_names
from airflow_mlops.core.replay.replay_request import replay_request

Choices = list[tuple[str, str]]


@dataclass(frozen=True)
class FormField:
    """A field of the form of an action: its name, its label, and the values to choose from; None for free text.

    ``default`` is what free text begins with, and ``check`` returns what is wrong with an answer; None if nothing is.
    One that is ``optional`` may be left empty.
    """

    name: str
    label: str
    choices: Choices | None = None
    default: str = ""
    check: Callable[[str], str | None] = lambda _value: None
    optional: bool = False


REASON = FormField("reason", "Why, for the ledger")
SHOWN = "shown"
"""Name of the field that holds the version which the person was shown."""
LONGEST = 500
"""Characters of an answer."""


@dataclass(frozen=True)
class Action:
    """An action on a loop.

    ``dag`` is the end of the id of the Dag that carries it out. ``obstacle`` returns why it cannot be done now, or
    None, and ``effect`` what it will do, in a sentence. ``fields`` returns the fields of its form, and ``subject`` the
    version that it is about, which its form sends along: the action is done to that one or to none. One that is
    ``alone`` is not started while a run of it is under way. ``conflict`` returns what is wrong with answers that are
    right each by itself; None if nothing is.
    """

    name: str
    label: str
    dag: str
    obstacle: Callable[[LoopState], str | None]
    effect: Callable[[LoopState], str]
    fields: Callable[[LoopState], list[FormField]] = lambda _state: [REASON]
    subject: Callable[[LoopState], str] = lambda _state: ""
    alone: bool = False
    conflict: Callable[[LoopState, Mapping[str, str]], str | None] = lambda _state, _answers: None


def _no_rollout(state: LoopState) -> str | None:
    return "No rollout is under way." if state.rollout is None else None


def _rollout(state: LoopState) -> str:
    rollout = state.rollout
    assert rollout is not None
    return f"version {rollout.version.number} ({rollout.kind}, {rollout.share} %)"


def _challenger(state: LoopState) -> str:
    return "" if state.rollout is None else state.rollout.version.number


def _champion(state: LoopState) -> str:
    return "none" if state.champion is None else state.champion.number


def _cannot_pause(state: LoopState) -> str | None:
    if state.rollout is not None and state.rollout.paused is not None:
        return f"The rollout is paused already: {state.rollout.paused}"
    return _no_rollout(state)


def _cannot_resume(state: LoopState) -> str | None:
    if state.rollout is not None and state.rollout.paused is None:
        return "The rollout is not paused."
    return _no_rollout(state)


def _cannot_skip(state: LoopState) -> str | None:
    if state.rollout is not None and (state.rollout.stage < 0 or state.rollout.settled):
        return "No stage is open that could be skipped."
    return _no_rollout(state)


def _earlier_champions(state: LoopState) -> list[str]:
    return [number for number in state.champions_before if number not in state.quarantined]


def _cannot_roll_back(state: LoopState) -> str | None:
    if state.rollout is not None:
        return "A rollout is under way: abort that first, and the champion stays."
    if state.champion is None:
        return "There is no champion yet."
    return None if _earlier_champions(state) else "No earlier champion can serve: none was, or all are in quarantine."


def _cannot_retrain(state: LoopState) -> str | None:
    if state.in_flight is not None:
        return f"Something is under way already: {state.in_flight}."
    return None if state.published.newest() else "No partition is published yet."


def _cannot_release(state: LoopState) -> str | None:
    return None if _quarantined_partitions(state) else "No newer partition has rows in quarantine."


def _quarantined_partitions(state: LoopState, most: int = 24) -> list[tuple[str, int]]:
    newest = state.published.newest_first(limit=most)
    return [(key, details.quarantined) for key, details in newest if details.quarantined]


def _cannot_unquarantine(state: LoopState) -> str | None:
    return None if state.quarantined else "No version is in quarantine."


def _cannot_replay(state: LoopState) -> str | None:
    return None if state.published.newest() else "No partition is published yet."


def _effect_of_replay(state: LoopState) -> str:
    return (
        f"Every candidate is fitted anew as of each of the {len(state.published):,} published partitions, up to the "
        "last one that you name, and on each window that you name; the policies decide over these fits. That is one "
        "task on a worker, and may take hours. Nothing that serves is changed. The answer is on the page of the model "
        "once the run has ended."
    )


def _wrong_policies(text: str) -> str | None:
    try:
        policy_names(text)
    except DeclarationError as error:
        return str(error)
    return None


def _wrong_request(**answer: str) -> str | None:
    try:
        replay_request(**answer)
    except (DeclarationError, DataError) as error:
        return str(error)
    return None


def _wrong_replay(state: LoopState, answers: Mapping[str, str]) -> str | None:
    """Return why the partitions of a replay leave nothing to choose a policy on, or to judge it on, in words.

    How many the first training needs is for the task to say: it has the declaration.
    """
    request = replay_request(until=answers["until"], split=answers["split"])
    keys = state.published.keys(until=request.until)
    if not keys:
        return f"No partition is published by {request.until}; the first is {state.published.oldest()}."
    if request.split is None:
        return None
    chosen_on = sum(key <= request.split for key in keys)
    if 0 < chosen_on < len(keys):
        return None
    place = "lies after" if chosen_on else "lies up to"
    return f"The partitions are {keys[0]} to {keys[-1]}, and none of them {place} {request.split}; choose one between."


REPLAY_FIELDS = [
    FormField("policies", "Policies, with commas between", default=POLICIES, check=_wrong_policies),
    FormField(
        "window",
        "Partitions to train on, as 8, all or 4,13,all; empty: as declared",
        check=lambda text: _wrong_request(window=text),
        optional=True,
    ),
    FormField(
        "until",
        "Last partition, as 2013-06-30; empty: the newest",
        check=lambda text: _wrong_request(until=text),
        optional=True,
    ),
    FormField(
        "split",
        "Choose a policy up to this partition and judge it after; empty: the middle",
        check=lambda text: _wrong_request(split=text),
        optional=True,
    ),
    REASON,
]


ACTIONS = {
    action.name: action
    for action in (
        Action(
            "retrain",
            "Retrain now",
            "train",
            _cannot_retrain,
            lambda state: (
                f"A training as of partition {state.published.newest()} begins. A candidate that passes its gates goes "
                "into its rollout; the champion serves until then."
            ),
            lambda _state: [],
        ),
        Action(
            "pause",
            "Pause the rollout",
            "control",
            _cannot_pause,
            lambda state: f"{_rollout(state)} stays where it is: the traffic stays, and no stage goes on.",
            subject=_challenger,
        ),
        Action(
            "resume",
            "Resume the rollout",
            "control",
            _cannot_resume,
            lambda state: f"{_rollout(state)} goes on from where it was paused.",
            subject=_challenger,
        ),
        Action(
            "skip",
            "Skip the stage",
            "control",
            _cannot_skip,
            lambda state: f"The open stage of {_rollout(state)} counts as passed, whatever its analyses found.",
            subject=_challenger,
        ),
        Action(
            "abort",
            "Abort the rollout",
            "control",
            _no_rollout,
            lambda state: (
                f"{_rollout(state)} is taken back at once and goes into quarantine; version {_champion(state)} serves "
                "everything."
            ),
            subject=_challenger,
        ),
        Action(
            "rollback",
            "Roll the champion back",
            "control",
            _cannot_roll_back,
            lambda state: (
                f"Version {_champion(state)} stops serving and goes into quarantine until a person lifts that; the "
                "version that you choose serves instead."
            ),
            lambda state: [
                FormField("to", "Version that shall serve", [(n, f"version {n}") for n in _earlier_champions(state)]),
                REASON,
            ],
            _champion,
        ),
        Action(
            "unquarantine",
            "Lift a quarantine",
            "control",
            _cannot_unquarantine,
            lambda _state: (
                "A version that was taken back or rejected may serve again: by a rollback, or a new rollout."
            ),
            lambda state: [
                FormField(
                    "version", "Version", [(n, f"version {n}: {why[:80]}") for n, why in state.quarantined.items()]
                ),
                REASON,
            ],
        ),
        Action(
            "release",
            "Release rows",
            "control",
            _cannot_release,
            lambda _state: (
                "The rows in quarantine are judged again by the contract and suite of today. Those that pass join "
                "their partition, which is published anew and scored again."
            ),
            lambda state: [
                FormField(
                    "partition",
                    "Partition",
                    [(key, f"{key}: {rows:,} rows") for key, rows in _quarantined_partitions(state)],
                ),
                REASON,
            ],
        ),
        Action(
            "replay",
            "Replay policies",
            "control",
            _cannot_replay,
            _effect_of_replay,
            lambda _state: REPLAY_FIELDS,
            alone=True,
            conflict=_wrong_replay,
        ),
    )
}
"""Every action by its name."""


def stale_form(action: Action, form: dict[str, str], state: LoopState) -> str | None:
    """Return that another version is meant now than the person was shown, in words; None where it is the same."""
    shown, now = form.get(SHOWN, ""), action.subject(state)
    if shown == now:
        return None
    return f"You were asked about version {shown or 'none'}, and it would be version {now or 'none'} now; look again."


def run_input(action: Action, form: dict[str, str], state: LoopState) -> dict[str, str]:
    """Return the input of the Dag run that carries out an action; unknown fields of the form are left out."""
    if action.dag != "control":
        return {}
    fields = {field.name: form.get(field.name, "").strip() for field in action.fields(state)}
    return {"version": action.subject(state), **fields, "action": action.name}


def invalid_field(action: Action, form: dict[str, str], state: LoopState) -> str | None:
    """Return which field of a form is missing or wrong, or which do not go together; None where all are right."""
    answers = {field.name: form.get(field.name, "").strip() for field in action.fields(state)}
    for field in action.fields(state):
        value = answers[field.name]
        if not value:
            if field.optional:
                continue
            return f"{field.label} is empty; it is needed."
        if field.choices is not None and value not in [choice for choice, _ in field.choices]:
            return f"{field.label} cannot be {value!r} any more; choose again."
        if len(value) > LONGEST:
            return f"{field.label} has {len(value)} characters; at most {LONGEST} are taken."
        wrong = field.check(value)
        if wrong is not None:
            return f"{field.label}: {wrong}."
    return action.conflict(state, answers)
