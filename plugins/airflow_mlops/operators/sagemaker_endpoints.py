"""Operators for SageMaker endpoints: weights of variants, shadow variants, guarded deployments.

They stand alone: in any Dag, for endpoints of anybody. Each of them compares what the endpoint serves with what it was
asked for once the endpoint has settled; a change that SageMaker has rolled back by itself is a failure that says so.
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

if TYPE_CHECKING:
    from airflow.sdk import Context

    from airflow_mlops.core.rollout.targets.sagemaker.deployment import Strategy
    from airflow_mlops.core.rollout.targets.sagemaker.endpoint import Endpoint


class SageMakerEndpointOperator(BaseOperator):
    """Change an endpoint, wait until it has settled, and make sure that the change is there; the base of the others.

    :param endpoint_name: name of the endpoint (templated)
    :param aws_conn_id: Airflow connection of type aws (templated)
    :param region_name: region of the endpoint, where it is not that of the connection (templated)
    :param verify: whether to verify certificates, or a file of them
    :param botocore_config: configuration of botocore's client
    :param wait_for_completion: whether to wait; without it nothing is compared either
    :param waiter_delay: seconds between two looks at the endpoint
    :param waiter_max_attempts: looks before it is given up
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
        with self.fail_without_retry():
            asked = self.change(endpoint)
        if not self.wait_for_completion:
            return asked
        if self.deferrable:
            self._defer(asked)
        with self.fail_without_retry():
            endpoint.wait_until_settled()
            return self.compared(endpoint, asked)

    def execute_complete(self, context: Context, event: dict[str, Any], asked: dict[str, Any]) -> dict[str, Any]:
        """Go on once the endpoint has settled.

        :raises TargetError: if it has not in time
        """
        from airflow_mlops.core.ports.rollout_target import TargetError

        if event["status"] != "settled":
            seconds = self.waiter_delay * self.waiter_max_attempts
            raise TargetError(f"endpoint {self.endpoint_name} has not settled in {seconds:g} s: {event['message']}")
        with self.fail_without_retry():
            return self.compared(self.endpoint(), asked)

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
        """Begin the change, unless it is there or under way; return what the endpoint was asked for, as JSON."""
        raise NotImplementedError

    def compared(self, endpoint: Endpoint, asked: dict[str, Any]) -> dict[str, Any]:
        """Return what was asked for, with the weights that are there, where the endpoint serves it.

        :raises DeploymentRolledBackError: if it serves something else
        """
        from airflow_mlops.core.rollout.targets.sagemaker.endpoint import require_config, require_weights, weights_of

        found = endpoint.describe()
        if "endpoint_config_name" in asked:
            require_config(found, asked["endpoint_config_name"])
        require_weights(found, asked.get("weights", {}))
        return {**asked, "weights": weights_of(found or {"ProductionVariants": []})}

    @contextmanager
    def fail_without_retry(self) -> Iterator[None]:
        """Let the task fail for good where trying again would not help, or would do it again to the callers.

        :raises AirflowFailException: if SageMaker has rolled back, or what is asked cannot be done
        """
        from airflow_mlops.core.rollout.targets.sagemaker.endpoint import DeploymentRolledBackError, translate_errors

        try:
            with translate_errors(f"endpoint {self.endpoint_name}"):
                yield
        except MlopsError as error:
            if error.retryable and not isinstance(error, DeploymentRolledBackError):
                raise
            raise AirflowFailException(f"{type(error).__name__}: {error}") from error

    def _defer(self, asked: dict[str, Any]) -> None:
        from airflow_mlops.triggers.sagemaker_settled import EndpointSettledTrigger

        self.defer(
            trigger=EndpointSettledTrigger(
                endpoint_name=self.endpoint_name, waiter_delay=self.waiter_delay,
                waiter_max_attempts=self.waiter_max_attempts, aws_conn_id=self.aws_conn_id,
                region_name=self.region_name, verify=self.verify, botocore_config=self.botocore_config,
            ),
            method_name="execute_complete",
            kwargs={"asked": asked},
            timeout=timedelta(seconds=self.waiter_delay * self.waiter_max_attempts + 300),
        )  # fmt: skip


class SageMakerUpdateWeightsOperator(SageMakerEndpointOperator):
    """Give the variants of an endpoint other weights, and more or fewer instances.

    A variant answers the share of its weight among all; which of them answers a request is drawn for each request.

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
    """Let a model see copies of an endpoint's requests, without answering any, or end that.

    The configuration is made of the one that is served, and named by a digest of what it holds: so a task that is
    tried again makes no second one.

    :param action: ``start`` or ``stop``
    :param model_name: name of the SageMaker model in the shadow (templated)
    :param share: percent of the requests that it sees
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
                "VariantName": self.variant_name, "ModelName": self.model_name, "InstanceType": self.instance_type,
                "InitialInstanceCount": self.instance_count,
            }  # fmt: skip
        config = change_shadow(endpoint, shadow, self.share)
        return {"endpoint_name": self.endpoint_name, "endpoint_config_name": config}


class SageMakerGuardrailOperator(SageMakerEndpointOperator):
    """Deploy a configuration in steps, watched by alarms: SageMaker goes back by itself when one of them goes off.

    Then this task fails for good, naming both configurations and SageMaker's reason.

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
            self.strategy, alarms=self.alarms, step=self.step, step_unit=self.step_unit, bake=self.bake_seconds,
            terminate=self.termination_wait_seconds, limit=self.max_execution_seconds,
        )  # fmt: skip
        deploy(endpoint, self.endpoint_config_name, DeploymentConfig=deployment)
        return {"endpoint_name": self.endpoint_name, "endpoint_config_name": self.endpoint_config_name}
