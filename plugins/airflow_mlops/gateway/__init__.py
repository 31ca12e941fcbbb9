"""The gateway: a small HTTP server that predicts with the champion and, during a rollout, with the challenger.

It is a process of its own (``airflow-mlops serve`` or ``python -m airflow_mlops.gateway``) and never imports Airflow
or MLflow. The control API says which versions it serves; it verifies their files itself, keeps its state on its own
disk, and serves the same again after a restart, even if everything else is down.

    application, http_messages          HTTP in and out
    server, start                       start and stop
    open_inference, invocations         other protocols, rewritten by row_text as the rows of /predict
    openapi                             every path, described
    row_shape, row_errors               check the rows of a request
    request_router                      champion, challenger, and the champion as fallback
    micro_batcher                       batches of rows for one version
    inference_backends, onnx_model      predict by frame, array or ONNX
    breaker                             takes a failing challenger out
    serving, state_file                 what is served, and how it is kept on disk
    counts_file, durable_file           what was counted, kept with the lines on disk
    other_replicas, replica_id          newer traffic of other replicas, followed before it serves
    model_cache, version_files          load, verify and keep versions
    request_counts, prediction_log      counts by unit, and one line per row
    shadow_link, shadow_process         a challenger beside the champion, in a process of its own
    metrics_page                        the page for Prometheus
"""
