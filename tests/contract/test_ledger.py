"""Operations without an answer are written down, and say so in words that help."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

from botocore import xform_name
from botocore.exceptions import ClientError

from tests.contract.asking import Asker
from tests.contract.inputs import Inputs
from tests.contract.ledger import recorded, unanswered

THREADS = 4


def test_the_ledger_is_exact() -> None:
    """Delete the line of an operation that is answered now; a line is never added but by a new botocore."""
    assert recorded() == unanswered()


def test_an_operation_that_is_not_built_says_so(ask: Asker) -> None:
    def fault(operation: str) -> str:
        members = Inputs(rich=False, values={}).make(ask.model(operation).input_shape)
        try:
            answer = getattr(ask.sagemaker, xform_name(operation))(**members)
        except ClientError as problem:
            error = problem.response["Error"]
            status = problem.response["ResponseMetadata"]["HTTPStatusCode"]
            told = (error["Code"], status, error["Message"].split(" ")[0])
            wanted = ("NotImplementedException", 400, operation)
            return "" if told == wanted else f"{operation} answered {told}"
        return f"{operation} answered {answer}"

    with ThreadPoolExecutor(THREADS) as pool:
        faults = [found for found in pool.map(fault, unanswered()) if found]
    assert faults == []
