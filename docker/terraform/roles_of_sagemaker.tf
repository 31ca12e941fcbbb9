# What SageMaker does in the name of a training or transform job and of an endpoint. Their containers reach no network.

data "aws_iam_policy_document" "sagemaker_trust" {
  statement {
    actions = ["sts:AssumeRole"]

    principals {
      type        = "Service"
      identifiers = ["sagemaker.amazonaws.com"]
    }

    # Nobody else's account may have SageMaker assume these roles.
    condition {
      test     = "StringEquals"
      variable = "aws:SourceAccount"
      values   = [data.aws_caller_identity.here.account_id]
    }
  }
}

data "aws_iam_policy_document" "images" {
  statement {
    sid       = "Login"
    actions   = ["ecr:GetAuthorizationToken"]
    resources = ["*"]
  }

  statement {
    sid       = "Pull"
    actions   = ["ecr:BatchCheckLayerAvailability", "ecr:BatchGetImage", "ecr:GetDownloadUrlForLayer"]
    resources = var.image_repositories
  }

  dynamic "statement" {
    for_each = var.kms_key_arn == "" ? [] : [var.kms_key_arn]

    content {
      sid       = "Key"
      actions   = ["kms:Decrypt", "kms:GenerateDataKey"]
      resources = [statement.value]
    }
  }
}

resource "aws_iam_role" "fits" {
  name               = "${var.name}-fits"
  assume_role_policy = data.aws_iam_policy_document.sagemaker_trust.json
}

data "aws_iam_policy_document" "fits" {
  source_policy_documents = [data.aws_iam_policy_document.images.json]

  statement {
    sid       = "ListFits"
    actions   = ["s3:ListBucket"]
    resources = [aws_s3_bucket.loops.arn]

    condition {
      test     = "StringLike"
      variable = "s3:prefix"
      values   = ["fits/*"]
    }
  }

  statement {
    sid       = "Fits"
    actions   = ["s3:AbortMultipartUpload", "s3:GetObject", "s3:PutObject"]
    resources = ["${aws_s3_bucket.loops.arn}/fits/*"]
  }

  statement {
    sid       = "Logs"
    actions   = ["logs:CreateLogGroup", "logs:CreateLogStream", "logs:DescribeLogStreams", "logs:PutLogEvents"]
    resources = [
      "${local.logs}:log-group:/aws/sagemaker/TrainingJobs*",
      "${local.logs}:log-group:/aws/sagemaker/TransformJobs*",
    ]
  }
}

resource "aws_iam_role_policy" "fits" {
  name   = "fits"
  role   = aws_iam_role.fits.id
  policy = data.aws_iam_policy_document.fits.json
}

resource "aws_iam_role" "serving" {
  name               = "${var.name}-serving"
  assume_role_policy = data.aws_iam_policy_document.sagemaker_trust.json
}

data "aws_iam_policy_document" "serving" {
  source_policy_documents = [data.aws_iam_policy_document.images.json]

  statement {
    sid       = "Archives"
    actions   = ["s3:GetObject"]
    resources = ["${aws_s3_bucket.loops.arn}/serving/*"]
  }

  # Requests are captured only where the connection asks for it.
  statement {
    sid       = "CapturedRequests"
    actions   = ["s3:PutObject"]
    resources = ["${aws_s3_bucket.loops.arn}/serving/captured/*"]
  }

  statement {
    sid       = "Logs"
    actions   = ["logs:CreateLogGroup", "logs:CreateLogStream", "logs:DescribeLogStreams", "logs:PutLogEvents"]
    resources = ["${local.logs}:log-group:/aws/sagemaker/Endpoints/mlops-*"]
  }
}

resource "aws_iam_role_policy" "serving" {
  name   = "serving"
  role   = aws_iam_role.serving.id
  policy = data.aws_iam_policy_document.serving.json
}
