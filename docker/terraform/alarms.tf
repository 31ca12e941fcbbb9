# Alarms of the endpoints that var.endpoints names: name them in the connection under serving.alarms, and a challenger
# fails while one is in ALARM.

locals {
  variants = merge([
    for endpoint, settings in var.endpoints : {
      for variant in settings.variants : "${endpoint}/${variant}" => { endpoint = endpoint, variant = variant }
    }
  ]...)
}

resource "aws_cloudwatch_metric_alarm" "errors" {
  for_each            = local.variants
  alarm_name          = "${var.name}-errors-${each.value.endpoint}-${each.value.variant}"
  alarm_description   = "More than ${100 * var.most_failed_share} % of the requests to ${each.key} were answered with 5xx."
  comparison_operator = "GreaterThanThreshold"
  threshold           = var.most_failed_share
  evaluation_periods  = 3
  datapoints_to_alarm = 2
  treat_missing_data  = "notBreaching"
  alarm_actions       = var.alarm_topics
  ok_actions          = var.alarm_topics

  metric_query {
    id          = "share"
    expression  = "failed / requests"
    label       = "share of requests answered with 5xx"
    return_data = true
  }

  metric_query {
    id = "failed"

    metric {
      namespace   = "AWS/SageMaker"
      metric_name = "Invocation5XXErrors"
      period      = 60
      stat        = "Sum"
      dimensions  = { EndpointName = each.value.endpoint, VariantName = each.value.variant }
    }
  }

  metric_query {
    id = "requests"

    metric {
      namespace   = "AWS/SageMaker"
      metric_name = "Invocations"
      period      = 60
      stat        = "Sum"
      dimensions  = { EndpointName = each.value.endpoint, VariantName = each.value.variant }
    }
  }
}

resource "aws_cloudwatch_metric_alarm" "latency" {
  for_each            = local.variants
  alarm_name          = "${var.name}-latency-${each.value.endpoint}-${each.value.variant}"
  alarm_description   = "One of 100 requests to ${each.key} took more than ${var.longest_seconds} s in the container."
  namespace           = "AWS/SageMaker"
  metric_name         = "ModelLatency"
  dimensions          = { EndpointName = each.value.endpoint, VariantName = each.value.variant }
  extended_statistic  = "p99"
  period              = 60
  evaluation_periods  = 3
  datapoints_to_alarm = 2
  comparison_operator = "GreaterThanThreshold"
  # SageMaker counts this metric in microseconds.
  threshold          = 1000000 * var.longest_seconds
  treat_missing_data = "notBreaching"
  alarm_actions      = var.alarm_topics
  ok_actions         = var.alarm_topics
}
