"""The open stores of one loop, and how a decision is appended to its ledger."""

from airflow_mlops.core.workspace.workspace import Ports, StoreAddresses, Workspace

__all__ = ["Ports", "StoreAddresses", "Workspace"]
