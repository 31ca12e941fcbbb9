resource "aws_s3_bucket" "loops" {
  bucket = var.bucket
}

resource "aws_s3_bucket_public_access_block" "loops" {
  bucket                  = aws_s3_bucket.loops.id
  block_public_acls       = true
  block_public_policy     = true
  ignore_public_acls      = true
  restrict_public_buckets = true
}

resource "aws_s3_bucket_ownership_controls" "loops" {
  bucket = aws_s3_bucket.loops.id

  rule {
    object_ownership = "BucketOwnerEnforced"
  }
}

resource "aws_s3_bucket_versioning" "loops" {
  bucket = aws_s3_bucket.loops.id

  versioning_configuration {
    status = "Enabled"
  }
}

resource "aws_s3_bucket_server_side_encryption_configuration" "loops" {
  bucket = aws_s3_bucket.loops.id

  rule {
    bucket_key_enabled = true

    apply_server_side_encryption_by_default {
      sse_algorithm     = var.kms_key_arn == "" ? "AES256" : "aws:kms"
      kms_master_key_id = var.kms_key_arn == "" ? null : var.kms_key_arn
    }
  }
}

resource "aws_s3_bucket_lifecycle_configuration" "loops" {
  bucket     = aws_s3_bucket.loops.id
  depends_on = [aws_s3_bucket_versioning.loops]

  # Rows of a job that a worker never came back to, and the archives of models that were fetched long ago.
  rule {
    id     = "fits"
    status = "Enabled"

    filter {
      prefix = "fits/"
    }

    expiration {
      days = var.days_of_fits
    }
  }

  # No rule removes current objects of the lake: airflow-mlops tidy knows which versions of models need them.
  rule {
    id     = "old-objects"
    status = "Enabled"

    filter {}

    noncurrent_version_expiration {
      noncurrent_days = var.days_of_old_objects
    }

    abort_incomplete_multipart_upload {
      days_after_initiation = 3
    }
  }
}

data "aws_iam_policy_document" "bucket" {
  statement {
    sid       = "OnlyByTls"
    effect    = "Deny"
    actions   = ["s3:*"]
    resources = [aws_s3_bucket.loops.arn, "${aws_s3_bucket.loops.arn}/*"]

    principals {
      type        = "*"
      identifiers = ["*"]
    }

    condition {
      test     = "Bool"
      variable = "aws:SecureTransport"
      values   = ["false"]
    }
  }
}

resource "aws_s3_bucket_policy" "loops" {
  bucket     = aws_s3_bucket.loops.id
  policy     = data.aws_iam_policy_document.bucket.json
  depends_on = [aws_s3_bucket_public_access_block.loops]
}
