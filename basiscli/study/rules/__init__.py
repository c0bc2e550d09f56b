"""The rules of the four claims (docs/study.md), a module each: records in, verdicts out."""
