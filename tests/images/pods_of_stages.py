"""Print the pods that Airflow's executor on Kubernetes makes of the tasks of a Dag, as JSON, by the task's id.

Run inside the image: ``python pods_of_stages.py DAG_FOLDER DAG_ID TASK_ID …``.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

from airflow.dag_processing.dagbag import BundleDagBag
from airflow.executors.executor_loader import ExecutorLoader
from airflow.providers.cncf.kubernetes.executors.kubernetes_executor_utils import get_base_pod_from_template
from airflow.providers.cncf.kubernetes.kube_config import KubeConfig
from airflow.providers.cncf.kubernetes.pod_generator import PodGenerator
from kubernetes.client import ApiClient

folder, dag_id, *task_ids = sys.argv[1:]
for executor in ExecutorLoader.get_executor_names():
    ExecutorLoader.import_executor_cls(executor)
bag = BundleDagBag(dag_folder=folder, bundle_path=Path(folder), bundle_name="dags-folder")
assert bag.import_errors == {}, bag.import_errors
pods = {}
for task_id in task_ids:
    declared = bag.dags[dag_id].get_task(task_id).executor_config
    pod = PodGenerator.construct_pod(
        namespace="airflow",
        scheduler_job_id="1",
        pod_id="a-task",
        dag_id=dag_id,
        task_id=task_id,
        kube_image="",
        try_number=1,
        date=None,
        run_id="manual",
        args=["python", "-m", "airflow.sdk.execution_time.execute_workload"],
        pod_override_object=PodGenerator.from_obj(declared),
        base_worker_pod=get_base_pod_from_template(declared["pod_template_file"], KubeConfig()),
    )
    pods[task_id] = ApiClient().sanitize_for_serialization(pod)
sys.stdout.write("\n" + json.dumps(pods))
