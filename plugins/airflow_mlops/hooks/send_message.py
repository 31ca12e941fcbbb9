"""Send a message to the receiver of a declared notifier, by an Airflow connection."""

from __future__ import annotations

from typing import TYPE_CHECKING

from airflow_mlops.core.declaration.notify import DeclaredNotifier, SmtpNotifier, WebhookNotifier
from airflow_mlops.core.errors import DeclarationError, NotSentError

if TYPE_CHECKING:
    from airflow_mlops.core.overview.messages import Message
    from airflow_mlops.core.ports.connections import HttpAddress

SLACK = "https://hooks.slack.com/services"
"""Address of Slack's webhooks, for a connection of type slackwebhook without a host."""
TIMEOUT = 10.0
"""Seconds to connect to a webhook, and seconds until it answers."""


def send_message(notifier: DeclaredNotifier, message: Message) -> None:
    """Send a message.

    :raises DeclarationError: if the connection is missing, or of another type
    :raises NotSentError: if the receiver does not answer, or refuses the message
    """
    if isinstance(notifier, SmtpNotifier):
        send_mail(notifier, message)
    else:
        post_message(notifier, message)


def post_message(notifier: WebhookNotifier, message: Message) -> None:
    """Send a message to a webhook; no answer but 2xx counts, and a redirect is not followed."""
    import httpx

    from airflow_mlops.core.overview.message_forms import BODIES, pagerduty_body
    from airflow_mlops.core.ports.http_client import open_client, parse_base_url

    address = webhook_address(notifier.conn_id)
    if notifier.style == "pagerduty":
        if not address.password:
            raise DeclarationError(f"connection {notifier.conn_id!r} has no password: it is PagerDuty's routing key")
        body = pagerduty_body(message, address.password)
    else:
        body = BODIES[notifier.style](message)
    url = parse_base_url(address, name=f"connection {notifier.conn_id!r}")
    try:
        # The body of the answer is not read: its status says all, and it may be of any size.
        headers = {"Idempotency-Key": message.id}
        with (
            open_client(address, timeout=TIMEOUT) as client,
            client.stream("POST", url, json=body, headers=headers) as response,
        ):
            status = response.status_code
    except httpx.HTTPError as error:
        # Its text may hold the address, and that of a webhook is a secret.
        raise NotSentError(f"connection {notifier.conn_id!r}: {type(error).__name__}") from None
    if not 200 <= status < 300:
        raise NotSentError(f"connection {notifier.conn_id!r} answered {status}")


def webhook_address(conn_id: str) -> HttpAddress:
    """Return the address of a connection of type http, https, or slackwebhook, whose password is a part of it.

    :raises DeclarationError: if there is none, or it is of another type
    """
    from airflow_mlops.core.ports.connections import HttpAddress
    from airflow_mlops.hooks.connections import AirflowConnections, get_connection

    try:
        connection = get_connection(conn_id)
        if connection.conn_type != "slackwebhook":
            return AirflowConnections().http(conn_id)
    except DeclarationError as error:
        raise DeclarationError(error.message, key="notify") from None
    host = connection.host or SLACK
    return HttpAddress(f"{host if '://' in host else f'https://{host}'}/{connection.password or ''}")


def send_mail(notifier: SmtpNotifier, message: Message) -> None:
    """Send a message as mail, with Airflow's own hook: TLS, login and OAuth2 are those of the connection."""
    from smtplib import SMTPException

    from airflow.providers.smtp.hooks.smtp import SmtpHook
    from airflow.sdk.exceptions import AirflowException

    from airflow_mlops.core.overview.message_forms import mail_body, mail_subject
    from airflow_mlops.hooks.connections import get_connection

    try:
        connection = get_connection(notifier.conn_id)
    except DeclarationError as error:
        raise DeclarationError(error.message, key="notify") from None
    if connection.conn_type != "smtp":
        raise DeclarationError(
            f"connection {notifier.conn_id!r} is of type {connection.conn_type!r}; mail needs one of type 'smtp'",
            key="notify",
        )
    headers = {"Message-ID": f"<{message.id.replace(':', '.')}@airflow-mlops>"}
    try:
        with SmtpHook(smtp_conn_id=notifier.conn_id) as hook:
            hook.send_email_smtp(
                to=list(notifier.to),
                subject=mail_subject(message),
                html_content=mail_body(message),
                custom_headers=headers,
            )
    except (OSError, SMTPException, AirflowException) as error:
        raise NotSentError(f"connection {notifier.conn_id!r}: {type(error).__name__}: {error}") from error
