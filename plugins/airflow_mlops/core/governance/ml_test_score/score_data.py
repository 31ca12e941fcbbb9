"""The seven data items of the ML Test Score."""

from __future__ import annotations

from airflow_mlops.core.governance.ml_test_score.points import Items, Point, View, full_point, half_point, no_point
from airflow_mlops.core.ledger.data_details import SnapshotPublished


def expectations(view: View) -> Point:
    """D1: expectations about the data stand in a schema, and every partition was held to them."""
    data = view.workspace.loop.data
    files = (*view.file(data.contract), *view.file(data.expectations))
    published = view.of_kind(SnapshotPublished)
    if not files:
        return no_point("no contract and no suite of expectations is declared")
    if not published:
        return half_point("declared, and no partition was validated yet", *files)
    checked = [view.document(published[-1].evidence[0])] if published[-1].evidence else []
    return full_point(f"{len(published)} partitions were validated before anything used them", *files, *checked)


def useful_features(view: View) -> Point:
    """D2: every feature earns its place."""
    importance = (view.evaluation.get("importance") or {}).get("permutation")
    if not importance:
        return no_point("the importance of features was not measured")
    idle = sorted(name for name, rise in importance.items() if rise <= 0)
    where = view.report_of()
    if idle:
        return half_point(f"measured at every training; of no measurable use: {', '.join(idle)}", where)
    return full_point(f"each of {len(importance)} features was measured to help", where)


def feature_cost(_view: View) -> Point:
    """D3: no feature costs too much."""
    return no_point("what each feature costs is not measured")


def allowed_columns(view: View) -> Point:
    """D4: only columns that may be used are used."""
    contract = view.workspace.contract
    if contract is None:
        return no_point("no contract says which columns may arrive")
    denied = f", {len(contract.deny)} patterns are denied" if contract.deny else ""
    reason = f"{len(contract.columns)} columns are allowed and any other is refused{denied}"
    return full_point(reason, *view.file(view.workspace.loop.data.contract))


def privacy(view: View) -> Point:
    """D5: personal data is controlled."""
    contract = view.workspace.contract
    if contract is None:
        return no_point("no contract says which columns are personal")
    personal = [name for name, column in contract.columns.items() if column.privacy != "none"]
    open_to_model = [name for name in personal if contract.columns[name].feature and not contract.columns[name].mask]
    where = view.file(view.workspace.loop.data.contract)
    if open_to_model:
        return half_point(f"a model sees, unmasked: {', '.join(open_to_model)}", *where)
    if personal:
        return full_point(f"{', '.join(personal)}: masked, or hidden from models; airflow-mlops forget erases", *where)
    if contract.deny:
        return full_point(f"no column is personal, and {', '.join(contract.deny)} would be refused", *where)
    return half_point("no column is declared personal, and no name is denied", *where)


def quick_features(_view: View) -> Point:
    """D6: a new feature is quick to add."""
    return no_point("how long a new feature takes is not measured")


def tested_features(view: View) -> Point:
    """D7: the code of features is tested."""
    loop = view.workspace.loop
    reference = loop.data.features or loop.train.function
    module = reference.partition(":")[0]
    package = module.rpartition(".")[0]
    files = view.tests_that_name([module, *([package] if "." in package else [])])
    if not files:
        return no_point(f"no test below tests/ names {module}")
    return full_point(f"{len(files)} test files name {package if '.' in package else module}", *files)


ITEMS: Items = {
    "D1": ("expectations in a schema", expectations),
    "D2": ("every feature earns its place", useful_features),
    "D3": ("no feature costs too much", feature_cost),
    "D4": ("only allowed columns", allowed_columns),
    "D5": ("privacy controls", privacy),
    "D6": ("a new feature is quick", quick_features),
    "D7": ("feature code is tested", tested_features),
}
