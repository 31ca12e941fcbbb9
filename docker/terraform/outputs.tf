output "lake" {
  description = "Path of the connection mlops_lake."
  value       = "s3://${aws_s3_bucket.loops.bucket}/lake"
}

output "serving" {
  description = "Settings of the connection mlops_sagemaker, to which image and instance type are added."
  value = {
    role    = aws_iam_role.serving.arn
    storage = "s3://${aws_s3_bucket.loops.bucket}/serving"
    alarms  = concat([for alarm in aws_cloudwatch_metric_alarm.errors : alarm.alarm_name], [for alarm in aws_cloudwatch_metric_alarm.latency : alarm.alarm_name])
  }
}

output "runs_on" {
  description = "Fields of train.runs_on for training jobs, to which image and instance type are added."
  value = {
    kind    = "sagemaker"
    role    = aws_iam_role.fits.arn
    storage = "s3://${aws_s3_bucket.loops.bucket}/fits"
  }
}

output "role_of_loops" {
  description = "ARN of the role that Airflow's workers assume: role_arn of the connections of type aws."
  value       = aws_iam_role.loops.arn
}
