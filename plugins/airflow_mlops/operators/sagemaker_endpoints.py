"""Operators for SageMaker endpoints: weights of variants, shadow variants, guarded deployments.

They work in any Dag, for any endpoint. Each compares what the endpoint serves with the request once the endpoint has
settled, and fails if SageMaker has rolled the change back by itself.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import timedelta
from typing import TYPE_CHECKING, Any, Literal

from airflow.sdk import BaseOperator
from airflow.sdk.configuration import conf
from airflow.sdk.exceptions import AirflowFailException

from airflow_mlops.core.errors import MlopsError
from airflow_mlops.operators.stage_lineage import DatasetReporter

if TYPE_CHECKING:
    from airflow.sdk import Context

    from airflow_mlops.core.lineage.task_lineage import Datasets
    from airflow_mlops.core.rollout.targets.sagemaker.deployment import Strategy
    from airflow_mlops.core.rollout.targets.sagemaker.endpoint import Endpoint


class SageMakerEndpointOperator(DatasetReporter, BaseOperator):
    """Change an endpoint, wait until it has settled, and verify the change; the base of the others.

    :param endpoint_name: name of the endpoint (templated)
    :param aws_conn_id: Airflow connection of type aws (templated)
    :param region_name: region of the endpoint, where it is not that of the connection (templated)
    :param verify: whether to verify certificates, or a file of them
    :param botocore_config: configuration of botocore's client
    :param wait_for_completion: whether to wait and to verify the change
    :param waiter_delay: seconds between two polls of the endpoint
    :param waiter_max_attempts: polls before the task fails
    :param deferrable: whether to wait without a worker slot
    """

    template_fields: Sequence[str] = ("endpoint_name", "aws_conn_id", "region_name")
    ui_color = "#e8f1fb"

    def __init__(
        self,
        *,
        endpoint_name: str,
        aws_conn_id: str | None = "aws_default",
        region_name: str | None = None,
        verify: bool | str | None = None,
        botocore_config: dict[str, Any] | None = None,
        wait_for_completion: bool = True,
        waiter_delay: float = 30,
        waiter_max_attempts: int = 240,
        deferrable: bool = conf.getboolean("operators", "default_deferrable", fallback=False),
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.endpoint_name = endpoint_name
        self.aws_conn_id = aws_conn_id
        self.region_name = region_name
        self.verify = verify
        self.botocore_config = botocore_config
        self.wait_for_completion = wait_for_completion
        self.waiter_delay = waiter_delay
        self.waiter_max_attempts = waiter_max_attempts
        self.deferrable = deferrable

    def execute(self, context: Context) -> dict[str, Any]:
        """Change the endpoint, and wait; see the class."""
        endpoint = self.endpoint()
        self.keep_datasets(lambda: self.datasets(endpoint))
        with self.fail_without_retry():
            request = self.change(endpoint)
        if not self.wait_for_completion:
            return request
        if self.deferrable:
            self._defer(request)
        with self.fail_without_retry():
            endpoint.wait_until_settled()
        return self._verify(endpoint, request)

    def execute_complete(self, context: Context, event: dict[str, Any], request: dict[str, Any]) -> dict[str, Any]:
        """Go on once the endpoint has settled.

        :raises TargetError: if it has not in time
        """
        from airflow_mlops.core.ports.rollout_target import TargetError

        if event["status"] != "settled":
            seconds = self.waiter_delay * self.waiter_max_attempts
            raise TargetError(f"endpoint {self.endpoint_name} has not settled in {seconds:g} s: {event['message']}")
        endpoint = self.endpoint()
        self.keep_datasets(lambda: self.datasets(endpoint))
        return self._verify(endpoint, request)

    def _verify(self, endpoint: Endpoint, request: dict[str, Any]) -> dict[str, Any]:
        """Return the verified change; only then the endpoint is an output of the task."""
        with self.fail_without_retry():
            verified = self.verify_change(endpoint, request)
        self.keep_datasets(lambda: self.datasets(endpoint, served=True))
        return verified

    def datasets(self, endpoint: Endpoint, *, served: bool = False) -> Datasets:
        """Return the models and configurations of the request, and the endpoint once it serves them."""
        from airflow_mlops.core.lineage.task_lineage import Dataset, DatasetName, Datasets

        namespace = f"sagemaker://{endpoint.client.meta.region_name}"
        inputs = tuple(Dataset(DatasetName(namespace, name)) for name in self.input_names())
        if not served:
            return Datasets(inputs)
        description = endpoint.describe() or {}
        output = Dataset(DatasetName(namespace, self.endpoint_name), version=description.get("EndpointConfigName"))
        return Datasets(inputs, (output,))

    def input_names(self) -> list[str]:
        """Return the names of the models and configurations that the change puts on the endpoint; none by default."""
        return []

    def endpoint(self) -> Endpoint:
        """Return the endpoint."""
        from airflow.providers.amazon.aws.hooks.sagemaker import SageMakerHook

        from airflow_mlops.core.rollout.targets.sagemaker.endpoint import Endpoint

        hook = SageMakerHook(
            aws_conn_id=self.aws_conn_id, region_name=self.region_name, verify=self.verify, config=self.botocore_config
        )
        seconds = float(self.waiter_delay * self.waiter_max_attempts)
        return Endpoint(hook.get_conn(), self.endpoint_name, wait_seconds=seconds, poll_seconds=self.waiter_delay)

    def change(self, endpoint: Endpoint) -> dict[str, Any]:
        """Start the change, unless it is done or under way; return the request as JSON values."""
        raise NotImplementedError

    def verify_change(self, endpoint: Endpoint, request: dict[str, Any]) -> dict[str, Any]:
        """Verify that the endpoint serves the request, and return it with the current weights.

        :raises DeploymentRolledBackError: if it serves something else
        """
        from airflow_mlops.core.rollout.targets.sagemaker.endpoint import require_config, require_weights, weights_of

        description = endpoint.describe()
        if "endpoint_config_name" in request:
            require_config(description, request["endpoint_config_name"])
        require_weights(description, request.get("weights", {}))
        return {**request, "weights": weights_of(description or {"ProductionVariants": []})}

    @contextmanager
    def fail_without_retry(self) -> Iterator[None]:
        """Translate errors; fail the task without a retry if a retry cannot help or would disturb the callers again.

        :raises AirflowFailException: if SageMaker has rolled back, or the request is impossible
        """
        from airflow_mlops.core.rollout.targets.sagemaker.endpoint import DeploymentRolledBackError, translate_errors

        try:
            with self.keeping_error(), translate_errors(f"endpoint {self.endpoint_name}"):
                yield
        except MlopsError as error:
            if error.retryable and not isinstance(error, DeploymentRolledBackError):
                raise
            raise AirflowFailException(f"{type(error).__name__}: {error}") from error

    def _defer(self, request: dict[str, Any]) -> None:
        from airflow_mlops.triggers.sagemaker_settled import EndpointSettledTrigger

        self.defer(
            trigger=EndpointSettledTrigger(
                endpoint_name=self.endpoint_name,
                waiter_delay=self.waiter_delay,
                waiter_max_attempts=self.waiter_max_attempts,
                aws_conn_id=self.aws_conn_id,
                region_name=self.region_name,
                verify=self.verify,
                botocore_config=self.botocore_config,
            ),
            method_name="execute_complete",
            kwargs={"request": request},
            timeout=timedelta(seconds=self.waiter_delay * self.waiter_max_attempts + 300),
        )


class SageMakerUpdateWeightsOperator(SageMakerEndpointOperator):
    """Change the weights and instance counts of the variants of an endpoint.

    A variant answers the share of its weight among all weights, drawn anew for each request.

    :param weights: weight by name of the variant; the others keep theirs (templated)
    :param instance_counts: number of instances by name of the variant (templated)
    """

    template_fields: Sequence[str] = (*SageMakerEndpointOperator.template_fields, "weights", "instance_counts")

    def __init__(
        self,
        *,
        weights: Mapping[str, float] | None = None,
        instance_counts: Mapping[str, int] | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.weights = weights
        self.instance_counts = instance_counts

    def change(self, endpoint: Endpoint) -> dict[str, Any]:
        """See the class."""
        from airflow_mlops.core.rollout.targets.sagemaker.deployment import change_variants

        weights = {name: float(weight) for name, weight in (self.weights or {}).items()}
        counts = {name: int(count) for name, count in (self.instance_counts or {}).items()}
        change_variants(endpoint, weights, counts)
        return {"endpoint_name": self.endpoint_name, "weights": weights}


class SageMakerShadowOperator(SageMakerEndpointOperator):
    """Start or stop a shadow variant, which gets copies of an endpoint's requests and answers none.

    The configuration is derived from the one that is served, and named by the digest of its content, so a retry creates
    no second one.

    :param action: ``start`` or ``stop``
    :param model_name: name of the SageMaker model in the shadow (templated)
    :param share: percent of the requests that are copied to it
    :param variant_name: name of the shadow variant (templated)
    :param instance_type: of the shadow; that of the variant beside it if not given
    :param instance_count: of the shadow when it starts
    """

    template_fields: Sequence[str] = (*SageMakerEndpointOperator.template_fields, "model_name", "variant_name")

    def __init__(
        self,
        *,
        action: Literal["start", "stop"],
        model_name: str | None = None,
        share: float = 100.0,
        variant_name: str = "shadow",
        instance_type: str | None = None,
        instance_count: int = 1,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.action = action
        self.model_name = model_name
        self.share = share
        self.variant_name = variant_name
        self.instance_type = instance_type
        self.instance_count = instance_count

    def change(self, endpoint: Endpoint) -> dict[str, Any]:
        """See the class."""
        from airflow_mlops.core.rollout.targets.sagemaker.deployment import change_shadow

        shadow = None
        if self.action == "start":
            shadow = {
                "VariantName": self.variant_name,
                "ModelName": self.model_name,
                "InstanceType": self.instance_type,
                "InitialInstanceCount": self.instance_count,
            }
        config = change_shadow(endpoint, shadow, self.share)
        return {"endpoint_name": self.endpoint_name, "endpoint_config_name": config}

    def input_names(self) -> list[str]:
        """Return the model that a shadow is started with."""
        return [f"models/{self.model_name}"] if self.action == "start" else []


class SageMakerGuardrailOperator(SageMakerEndpointOperator):
    """Deploy a configuration in steps, watched by alarms: SageMaker rolls back by itself when one of them goes off.

    Then this task fails without a retry, naming both configurations and SageMaker's reason.

    :param endpoint_config_name: configuration to serve; its variants have the names of those that serve (templated)
    :param alarms: names of CloudWatch alarms, 1 to 10 (templated)
    :param strategy: ``blue_green`` (all at once), ``canary`` (a part, then the rest), ``linear`` (equal parts), or
        ``rolling`` (instance by instance, of one variant)
    :param step: size of the canary, of a linear step, or of a rolling batch
    :param step_unit: ``percent`` of the capacity, or ``instances``
    :param bake_seconds: time between steps, and after the last, in which the alarms are watched
    :param termination_wait_seconds: time that the old instances stay afterwards
    :param max_execution_seconds: time that all of it may take
    """

    template_fields: Sequence[str] = (*SageMakerEndpointOperator.template_fields, "endpoint_config_name", "alarms")

    def __init__(
        self,
        *,
        endpoint_config_name: str,
        alarms: Sequence[str],
        strategy: Strategy = "canary",
        step: int = 10,
        step_unit: Literal["percent", "instances"] = "percent",
        bake_seconds: int = 600,
        termination_wait_seconds: int = 0,
        max_execution_seconds: int | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.endpoint_config_name = endpoint_config_name
        self.alarms = alarms
        self.strategy = strategy
        self.step = step
        self.step_unit = step_unit
        self.bake_seconds = bake_seconds
        self.termination_wait_seconds = termination_wait_seconds
        self.max_execution_seconds = max_execution_seconds

    def change(self, endpoint: Endpoint) -> dict[str, Any]:
        """See the class."""
        from airflow_mlops.core.rollout.targets.sagemaker.deployment import deploy, guardrails

        deployment = guardrails(
            self.strategy,
            alarms=self.alarms,
            step=self.step,
            step_unit=self.step_unit,
            bake=self.bake_seconds,
            terminate=self.termination_wait_seconds,
            limit=self.max_execution_seconds,
        )
        deploy(endpoint, self.endpoint_config_name, DeploymentConfig=deployment)
        return {"endpoint_name": self.endpoint_name, "endpoint_config_name": self.endpoint_config_name}

    def input_names(self) -> list[str]:
        """Return the configuration that is deployed."""
        return [f"endpoint-configs/{self.endpoint_config_name}"]
