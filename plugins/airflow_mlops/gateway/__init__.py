"""The gateway: a small server that answers with the champion and, in a rollout, with the challenger.

It is a process of its own (``airflow-mlops serve`` or ``python -m airflow_mlops.gateway``) and never imports Airflow
or MLflow. What it serves it is told by the control API, from files that it verifies itself; what it was told last it
keeps on its own disk, and serves that again after a restart with everything else down.

    application   requests in, answers out          control        what to serve
    row_shape     is a request's row a good row     version_files  copy and verify a version
    answering     champion, challenger, fallback    model_forms    arrays, frame or ONNX
    lane          micro-batches of one version      breaker        takes a failing challenger out
    request_counts, prediction_log                  what was seen, by unit and row by row
    shadow_link, shadow_process                     a challenger beside, in a process of its own
"""
