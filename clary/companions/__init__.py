"""The AWS services that a SageMaker user's code also calls, one file each."""
