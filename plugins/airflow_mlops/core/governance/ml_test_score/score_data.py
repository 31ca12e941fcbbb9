"""Data: is what a model is made from known, checked, useful and allowed?"""

from __future__ import annotations

from airflow_mlops.core.governance.ml_test_score.points import Items, Point, View, full, half, none
from airflow_mlops.core.ledger.data_details import SnapshotPublished


def expectations(view: View) -> Point:
    """D1: expectations about the data stand in a schema, and every partition was held to them."""
    data = view.workspace.loop.data
    files = (*view.file(data.contract), *view.file(data.expectations))
    published = view.of_kind(SnapshotPublished)
    if not files:
        return none("no contract and no suite of expectations is declared")
    if not published:
        return half("declared, and no partition was validated yet", *files)
    checked = [view.document(published[-1].evidence[0])] if published[-1].evidence else []
    return full(f"{len(published)} partitions were validated before anything used them", *files, *checked)


def useful_features(view: View) -> Point:
    """D2: every feature earns its place."""
    found = (view.judged.get("importance") or {}).get("permutation")
    if not found:
        return none("the importance of features was not measured")
    idle = sorted(name for name, rise in found.items() if rise <= 0)
    where = view.report_of()
    if idle:
        return half(f"measured at every training; of no measurable use: {', '.join(idle)}", where)
    return full(f"each of {len(found)} features was measured to help", where)


def feature_cost(_view: View) -> Point:
    """D3: no feature costs too much."""
    return none("what each feature costs is not measured")


def allowed_columns(view: View) -> Point:
    """D4: only columns that may be used are used."""
    contract = view.workspace.contract
    if contract is None:
        return none("no contract says which columns may arrive")
    denied = f", {len(contract.deny)} patterns are denied" if contract.deny else ""
    said = f"{len(contract.columns)} columns are allowed and any other is refused{denied}"
    return full(said, *view.file(view.workspace.loop.data.contract))


def privacy(view: View) -> Point:
    """D5: personal data is controlled."""
    contract = view.workspace.contract
    if contract is None:
        return none("no contract says which columns are personal")
    personal = [name for name, column in contract.columns.items() if column.privacy != "none"]
    open_to_model = [name for name in personal if contract.columns[name].feature and not contract.columns[name].mask]
    where = view.file(view.workspace.loop.data.contract)
    if open_to_model:
        return half(f"a model sees, unmasked: {', '.join(open_to_model)}", *where)
    if personal:
        return full(f"{', '.join(personal)}: masked, or hidden from models; airflow-mlops forget erases", *where)
    if contract.deny:
        return full(f"no column is personal, and {', '.join(contract.deny)} would be refused", *where)
    return half("no column is declared personal, and no name is denied", *where)


def quick_features(_view: View) -> Point:
    """D6: a new feature is quick to add."""
    return none("how long a new feature takes is not measured")


def tested_features(view: View) -> Point:
    """D7: the code of features is tested."""
    loop = view.workspace.loop
    reference = loop.data.features or loop.train.function
    module = reference.partition(":")[0]
    package = module.rpartition(".")[0]
    found = view.tests_that_name([module, *([package] if "." in package else [])])
    if not found:
        return none(f"no test below tests/ names {module}")
    return full(f"{len(found)} test files name {package if '.' in package else module}", *found)


ITEMS: Items = {
    "D1": ("expectations in a schema", expectations),
    "D2": ("every feature earns its place", useful_features),
    "D3": ("no feature costs too much", feature_cost),
    "D4": ("only allowed columns", allowed_columns),
    "D5": ("privacy controls", privacy),
    "D6": ("a new feature is quick", quick_features),
    "D7": ("feature code is tested", tested_features),
}
