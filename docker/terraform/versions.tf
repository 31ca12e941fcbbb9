terraform {
  required_version = ">= 1.6"

  required_providers {
    aws = {
      source  = "hashicorp/aws"
      version = ">= 5.60, < 7.0"
    }
  }
}

data "aws_caller_identity" "here" {}

data "aws_partition" "here" {}

locals {
  # Every name that the loops make in SageMaker begins so.
  sagemaker = "arn:${data.aws_partition.here.partition}:sagemaker:${var.region}:${data.aws_caller_identity.here.account_id}"
  logs      = "arn:${data.aws_partition.here.partition}:logs:${var.region}:${data.aws_caller_identity.here.account_id}"
  alarms    = "arn:${data.aws_partition.here.partition}:cloudwatch:${var.region}:${data.aws_caller_identity.here.account_id}:alarm"
}
