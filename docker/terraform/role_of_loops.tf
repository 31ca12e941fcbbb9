# What Airflow's workers may do: read and write the bucket, run training and transform jobs, and change the endpoints of the loops.

data "aws_iam_policy_document" "loops_trust" {
  statement {
    actions = ["sts:AssumeRole"]

    principals {
      type        = "AWS"
      identifiers = var.airflow_principals
    }
  }
}

resource "aws_iam_role" "loops" {
  name               = "${var.name}-loops"
  assume_role_policy = data.aws_iam_policy_document.loops_trust.json
}

data "aws_iam_policy_document" "loops" {
  statement {
    sid       = "ListBucket"
    actions   = ["s3:ListBucket"]
    resources = [aws_s3_bucket.loops.arn]
  }

  statement {
    sid = "Objects"
    actions = [
      "s3:AbortMultipartUpload",
      "s3:DeleteObject",
      "s3:GetObject",
      "s3:PutObject",
    ]
    resources = ["${aws_s3_bucket.loops.arn}/*"]
  }

  dynamic "statement" {
    for_each = var.kms_key_arn == "" ? [] : [var.kms_key_arn]

    content {
      sid       = "Key"
      actions   = ["kms:Decrypt", "kms:GenerateDataKey"]
      resources = [statement.value]
    }
  }

  statement {
    sid = "TrainingJobs"
    actions = [
      "sagemaker:CreateTrainingJob",
      "sagemaker:DescribeTrainingJob",
      "sagemaker:StopTrainingJob",
    ]
    resources = ["${local.sagemaker}:training-job/mlops-*"]
  }

  statement {
    sid = "TransformJobs"
    actions = [
      "sagemaker:CreateTransformJob",
      "sagemaker:DescribeTransformJob",
      "sagemaker:StopTransformJob",
    ]
    resources = ["${local.sagemaker}:transform-job/mlops-*"]
  }

  statement {
    sid       = "Models"
    actions   = ["sagemaker:CreateModel", "sagemaker:DeleteModel", "sagemaker:DescribeModel"]
    resources = ["${local.sagemaker}:model/mlops-*"]
  }

  statement {
    sid = "EndpointConfigs"
    actions = [
      "sagemaker:CreateEndpointConfig",
      "sagemaker:DeleteEndpointConfig",
      "sagemaker:DescribeEndpointConfig",
    ]
    resources = ["${local.sagemaker}:endpoint-config/mlops-*"]
  }

  statement {
    sid = "Endpoints"
    actions = [
      "sagemaker:AddTags",
      "sagemaker:CreateEndpoint",
      "sagemaker:DeleteTags",
      "sagemaker:DescribeEndpoint",
      "sagemaker:ListTags",
      "sagemaker:UpdateEndpoint",
      "sagemaker:UpdateEndpointWeightsAndCapacities",
    ]
    resources = ["${local.sagemaker}:endpoint/mlops-*"]
  }

  # AWS checks the configuration of a new or changed endpoint under the action of the endpoint, too.
  statement {
    sid       = "EndpointsWithConfigs"
    actions   = ["sagemaker:CreateEndpoint", "sagemaker:UpdateEndpoint"]
    resources = ["${local.sagemaker}:endpoint-config/mlops-*"]
  }

  statement {
    sid       = "Alarms"
    actions   = ["cloudwatch:DescribeAlarms"]
    resources = ["${local.alarms}:*"]
  }

  # AWS knows no resource for these: they list, or read metrics of any name.
  statement {
    sid = "WithoutResource"
    actions = [
      "cloudwatch:GetMetricData",
      "sagemaker:ListEndpointConfigs",
      "sagemaker:ListModels",
    ]
    resources = ["*"]
  }

  statement {
    sid       = "PassRoles"
    actions   = ["iam:PassRole"]
    resources = [aws_iam_role.fits.arn, aws_iam_role.serving.arn]

    condition {
      test     = "StringEquals"
      variable = "iam:PassedToService"
      values   = ["sagemaker.amazonaws.com"]
    }
  }
}

resource "aws_iam_role_policy" "loops" {
  name   = "loops"
  role   = aws_iam_role.loops.id
  policy = data.aws_iam_policy_document.loops.json
}
