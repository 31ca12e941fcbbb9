variable "region" {
  type        = string
  description = "Region of the bucket, the jobs, the endpoints and the alarms."
}

variable "name" {
  type        = string
  default     = "airflow-mlops"
  description = "Beginning of the names of the roles and of the alarms."
}

variable "bucket" {
  type        = string
  description = "Name of the bucket. The lake is below lake/, training jobs work below fits/, endpoints read below serving/."
}

variable "airflow_principals" {
  type        = list(string)
  description = "ARNs of the roles that Airflow's workers run as; they may assume the role of the loops."
}

variable "image_repositories" {
  type        = list(string)
  description = "ARNs of the ECR repositories with the images of training jobs and of endpoints."
}

variable "kms_key_arn" {
  type        = string
  default     = ""
  description = "ARN of a KMS key that encrypts the bucket. Without one, S3 encrypts with its own keys."
}

variable "endpoints" {
  type        = map(object({ variants = list(string) }))
  default     = {}
  description = "Endpoints to watch, by name, each with the variants to watch, such as version-7: an alarm sees one variant."
}

variable "most_failed_share" {
  type        = number
  default     = 0.05
  description = "Share of requests that a variant may answer with 5xx before its alarm goes off."
}

variable "longest_seconds" {
  type        = number
  default     = 0.5
  description = "Seconds that 99 of 100 requests to a variant may take in the container before its alarm goes off."
}

variable "alarm_topics" {
  type        = list(string)
  default     = []
  description = "ARNs of SNS topics that alarms are sent to."
}

variable "days_of_fits" {
  type        = number
  default     = 7
  description = "Days after which what a training job has left is removed."
}

variable "days_of_old_objects" {
  type        = number
  default     = 30
  description = "Days for which an object that was replaced or deleted can be brought back."
}
