"""Functions that a SELECT may call and that write, lock, send or signal, although no word of the statement says so.

A read-only transaction stops most functions that write; those of PostgreSQL and SQLite below are the ones that it does
not stop. Where a driver has no such transaction, functions that advance a sequence are refused as well.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from sqlglot import exp

READ_ONLY_DRIVERS = frozenset(("psycopg", "psycopg2", "sqlite3"))
"""Drivers whose transaction is read-only, so that the database itself stops what writes to its tables."""

_WRITING = re.compile(
    r"""
      dblink(_\w+)?                                                # PostgreSQL: statements on another connection
    | lo_(import|export|unlink|create|creat|put|from_bytea|open|truncate\w*) | lowrite
    | pg_(notify|promote|reload_conf|(terminate|cancel)_backend|rotate_logfile\w*|switch_wal|file_\w+)
    | pg_(logical_emit_message|import_system_collations|wal_replay_(pause|resume))
    | pg_(create_\w+|drop_replication_slot|copy_\w+_slot|replication_\w+|logical_slot_get\w*|stat_reset\w*)
    | pg_(advisory|try_advisory)_\w+
    | pg_(start_backup|stop_backup|backup_start|backup_stop) | set_config
    | load_extension | writefile | fts3_tokenizer                  # SQLite
    | get_lock | release_lock | release_all_locks | sys_exec | sys_eval   # MySQL
    | openquery | openrowset | opendatasource | xp_\w+ | sp_\w+    # SQL Server
    | system\$(abort|cancel|send|pipe_force|task|set)\w*           # Snowflake
    """,
    re.VERBOSE | re.IGNORECASE,
)
_SEQUENCES = re.compile(r"nextval|setval", re.IGNORECASE)
_PACKAGES = re.compile(r"dbms_\w+|utl_\w+", re.IGNORECASE)  # Oracle


def writing_function(node: exp.Expr, driver: str) -> str | None:
    """Return the name of a known function that writes, as SQL calls it; None if a node calls none."""
    from sqlglot import exp

    if isinstance(node, exp.NextValueFor):
        return None if driver in READ_ONLY_DRIVERS else "NEXT VALUE FOR"
    if isinstance(node, exp.Dot) and isinstance(node.expression, exp.Func) and _PACKAGES.fullmatch(node.this.name):
        return f"a call of {node.this.name}.{node.expression.name}"
    if isinstance(node, exp.Anonymous):
        return f"a call of {node.name}" if _writes(node.name, driver) else None
    return f"{node.table}.{node.name}" if isinstance(node, exp.Column) and _advances(node, driver) else None


def _writes(name: str, driver: str) -> bool:
    if _WRITING.fullmatch(name):
        return True
    return driver not in READ_ONLY_DRIVERS and _SEQUENCES.fullmatch(name) is not None


def _advances(column: exp.Column, driver: str) -> bool:
    """Return whether a column is a call of Snowflake's and Oracle's: the next value of a sequence."""
    return bool(column.table) and column.name.lower() == "nextval" and driver not in READ_ONLY_DRIVERS
