"""The doctor: looks over the whole state of a repository and says what is not well, and what to do about it."""

from agent.doctor.diagnosis import diagnose
from agent.doctor.examination import examine
from agent.doctor.findings import Finding, Severity
from agent.doctor.fixes import fix

__all__ = ["Finding", "Severity", "diagnose", "examine", "fix"]
